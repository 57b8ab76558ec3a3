"""The ten art styles: which pinned package each comes from, whose work it is, and how the package is had."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One art style: the npm package @iconify-json/`package`, pinned, and whose work it is.

    Args:
        sha256: of the package's tarball.
        author, home, licence: for the attribution; the licence as its SPDX name.
        categories: the style whose categories are used, where the package itself has none.
    """

    package: str
    version: str
    sha256: str
    author: str
    home: str
    licence: str
    categories: str = ""


SOURCES: dict[str, Source] = {
    "noto": Source(
        "noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Google LLC",
        "https://github.com/googlefonts/noto-emoji",
        "Apache-2.0",
    ),
    "noto classic": Source(
        "noto-v1",
        "1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        "Google LLC",
        "https://github.com/googlefonts/noto-emoji",
        "Apache-2.0",
    ),
    "fluent": Source(
        "fluent-emoji",
        "1.2.7",
        "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
        "Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
        "MIT",
        categories="fluent flat",
    ),
    "fluent flat": Source(
        "fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
        "MIT",
    ),
    "twemoji": Source(
        "twemoji",
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        "Twitter, Inc and other contributors",
        "https://github.com/jdecked/twemoji",
        "CC-BY-4.0",
    ),
    "openmoji": Source(
        "openmoji",
        "1.2.29",
        "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
        "HfG Schwaebisch Gmuend and contributors",
        "https://openmoji.org",
        "CC-BY-SA-4.0",
    ),
    "emojione": Source(
        "emojione",
        "1.2.3",
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        "EmojiOne and the EmojiTwo contributors",
        "https://github.com/EmojiTwo/emojitwo",
        "CC-BY-4.0",
    ),
    "emojione classic": Source(
        "emojione-v1",
        "1.2.3",
        "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
        "EmojiOne (now JoyPixels)",
        "https://github.com/joypixels/emojione-legacy",
        "CC-BY-SA-4.0",
    ),
    "streamline": Source(
        "streamline-emojis",
        "1.2.4",
        "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
        "Streamline (Webalys)",
        "https://github.com/webalys-hq/streamline-vectors",
        "CC-BY-4.0",
    ),
    "fxemoji": Source(
        "fxemoji",
        "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        "Mozilla",
        "https://github.com/mozilla/fxemoji",
        "Apache-2.0",
    ),
}
SHIPPED = ("noto", "noto classic", "fluent", "fluent flat", "twemoji")

# Other sets' category names as the nine of Unicode; empty: says nothing about the picture.
CATEGORIES: Mapping[str, str] = {
    "activity": "activities",
    "nature": "animals and nature",
    "animals nature": "animals and nature",
    "extras openmoji": "",
    "extras unicode": "",
    "food": "food and drink",
    "food drink": "food and drink",
    "people": "people and body",
    "people body": "people and body",
    "smiley people": "people and body",
    "smileys emotion": "smileys and emotion",
    "travel": "travel and places",
    "travel places": "travel and places",
    "places": "travel and places",
}

LICENCE_URLS: Mapping[str, str] = {
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
}

NOTICES: Mapping[str, str] = {
    "Apache-2.0": """
## Apache-2.0

Licensed under the Apache License, Version 2.0; you may not use these files except in compliance with it. The full text is
the file LICENSE of this project and at https://www.apache.org/licenses/LICENSE-2.0. Distributed on an "AS IS" basis, without
warranties or conditions of any kind, either express or implied.""",
    "MIT": """
## MIT

Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software
is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES
OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS
BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF
OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.""",
    "CC-BY-4.0": """
## CC-BY-4.0

Creative Commons Attribution 4.0 International: share and adapt, also commercially, with credit to the authors named in the
table and a note of changes. Anyone who passes these pictures on must keep this attribution. Twemoji: graphics copyright
Twitter, Inc and other contributors, https://github.com/jdecked/twemoji.""",
    "CC-BY-SA-4.0": """
## CC-BY-SA-4.0

Creative Commons Attribution-ShareAlike 4.0 International: as CC-BY-4.0, and adaptations must carry the same licence. These
pictures are therefore not shipped with this project; this folder was built by its user.""",
}


def licences(styles: Mapping[str, Source], size: int) -> str:
    """LICENSES.md for a folder of pictures: per style the author, the source, the licence, what was changed."""
    lines = [
        "# Licences of the emoji pictures in this folder",
        "",
        "Every atlas holds the drawings of one emoji set, the work of its authors. Changes made to all of them: skin-tone",
        f"variants left out, drawn at {size}x{size} pixels on white, tiled into one WebP file. No endorsement by them",
        "is implied. Drawn from the SVG bodies in the Iconify packages named here. Names are Unicode's, in Iconify's spelling.",
        "",
        "| file | set | authors | package | licence |",
        "|---|---|---|---|---|",
    ]
    for style, source in styles.items():
        lines.append(
            f"| {style.replace(' ', '-')}.webp | [{style}]({source.home}) | Copyright {source.author} "
            f"| @iconify-json/{source.package} {source.version} | [{source.licence}]({LICENCE_URLS[source.licence]}) |"
        )
    used = {source.licence for source in styles.values()}
    lines += [text for licence, text in NOTICES.items() if licence in used]
    return "\n".join(lines) + "\n"


def fetch(source: Source, cache_folder: Path) -> Path:
    """The tarball of a source's package: from the cache, else by `npm pack`; its SHA-256 is checked either way.

    Raises:
        ValueError: npm is missing or fails (offline), or the bytes are not the pinned ones.
    """
    path = cache_folder / f"iconify-json-{source.package}-{source.version}.tgz"
    wanted = f"@iconify-json/{source.package}@{source.version}"
    if not path.exists():
        cache_folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", wanted, "--silent", "--ignore-scripts", "--pack-destination", str(cache_folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        except FileNotFoundError as error:
            raise ValueError("emoji: npm is not installed; install Node.js, or use the embedded styles") from error
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"emoji: npm did not deliver {wanted} in 10 minutes; is the network up?") from error
        except subprocess.CalledProcessError as error:
            said = next((line for line in reversed(error.stderr.splitlines()) if line.strip()), "no message")
            raise ValueError(f"emoji: npm could not deliver {wanted} ({said.strip()}); is the network up?") from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise ValueError(f"emoji: {path} has SHA-256 {found[:12]}.., not {source.sha256[:12]}..; delete it and try again")
    return path
