"""The twelve public sets that i1 was trained on (arXiv 2606.11289): what they are, on what terms, how a copy is prepared.

Nothing here downloads. Sizes are those of the published caption set `zlab-princeton/i1-captions`, whose keys `layout` makes
where they are known; where not, `--key` says how. Terms were read where `read` says so and are common knowledge elsewhere:
read them yourself before you train on a set.
"""

from __future__ import annotations

from dataclasses import dataclass

from diptych.data.records import PLAIN, Layout

CAPTIONS = ("caption1", "caption2", "caption3", "caption4", "caption5")


@dataclass(frozen=True)
class Entry:
    """A public set.

    Args:
        title: what it is called.
        source: where its pictures are.
        images: pictures that have captions.
        kind: "real", "synthetic" or "text" (pictures of words).
        terms: on what terms.
        read: where the terms were read; "" = common knowledge, not looked up.
        obtain: how to have it.
        stages: of i1's training (pixels) that use it; "baseline" where only the controlled experiments do.
        layout: keys, column of the pictures, annotation.
        keyed: whether `layout` is known to make the keys of the caption set.
        captioner: `captioning.INSTRUCTIONS` that fits.
    """

    title: str
    source: str
    images: int
    kind: str
    terms: str
    obtain: str
    read: str = ""
    stages: tuple[str, ...] = ("256", "512")
    layout: Layout = PLAIN
    keyed: bool = False
    captioner: str = "detailed"


ALL = ("256", "512", "1024")
PER_PICTURE = "a Creative Commons licence a picture"

CATALOGUE: dict[str, Entry] = {
    "yfcc100m": Entry(
        "YFCC100M",
        "Flickr, by the SQL metadata of YFCC100M",
        98_121_424,
        "real",
        f"{PER_PICTURE}, by its author",
        "fetch the addresses of the metadata with a downloader such as img2dataset; many are gone",
        stages=("256",),
    ),
    "imagenet22k": Entry(
        "ImageNet-22K",
        "timm/imagenet-22k-wds on the Hugging Face hub",
        13_673_551,
        "real",
        "research only, after agreeing to the terms of access; pictures belong to their authors",
        "accept the terms on the hub; tars in webdataset's layout",
    ),
    "megalith10m": Entry(
        "Megalith-10M",
        "madebyollin/megalith-10m (addresses), drawthingsai/megalith-10m (archived copies)",
        9_393_971,
        "real",
        "list MIT; pictures marked public domain, CC0, US government or without known restrictions",
        "fetch the addresses, or the archived copies",
        read="card of madebyollin/megalith-10m",
        layout=Layout(key="{key}"),
        keyed=True,
    ),
    "places365": Entry(
        "Places365-Challenge",
        "places2.csail.mit.edu",
        8_026_628,
        "real",
        "research and education only",
        "register there; the challenge's large archive",
        layout=Layout(key="{folder}{file}"),
    ),
    "redcaps": Entry(
        "RedCaps v1",
        "Reddit, by redcaps.xyz",
        4_817_431,
        "real",
        "research only; pictures belong to those who posted them",
        "redcaps-downloader with credentials of Reddit's interface; many pictures are gone",
        stages=ALL,
    ),
    "pexels": Entry(
        "Pexels, 640 px WebP",
        "animetimm/pexels-tagger-v0-w640-ws-full on the Hugging Face hub",
        2_810_634,
        "real",
        "Pexels' own licence: free use, no resale of unchanged copies",
        "ask for access on the hub; tars in webdataset's layout, keyed by Pexels' number",
        layout=Layout(key="{stem}"),
        keyed=True,
    ),
    "inaturalist2024": Entry(
        "iNaturalist 2024",
        "iNaturalist's open data on AWS",
        4_813_543,
        "real",
        f"{PER_PICTURE}, many of them non-commercial",
        "the list of the 2024 competition",
        stages=("baseline",),
    ),
    "fluxreason6m": Entry(
        "FLUX-Reason-6M",
        "LucasFang/FLUX-Reason-6M on the Hugging Face hub",
        5_890_279,
        "synthetic",
        "drawn by FLUX.1-dev; its terms on outputs apply beside the card's",
        "Parquet files from the hub",
        stages=ALL,
        layout=Layout(key="{id}"),
        keyed=True,
    ),
    "gptedit": Entry(
        "GPT-Image-Edit-1.5M, simpler form",
        "UCSC-VLAA/gpt-edit-simpler on the Hugging Face hub",
        1_553_575,
        "synthetic",
        "CC BY 4.0; drawn by GPT-Image-1, whose terms on outputs apply too",
        "Parquet files from the hub; the column `output`",
        read="card of UCSC-VLAA/GPT-Image-Edit-1.5M",
        stages=ALL,
        layout=Layout(key="{id}", image="output"),
        keyed=True,
    ),
    "midjourneyv6": Entry(
        "Midjourney v6 recap",
        "Photoroom/midjourney-v6-recap on the Hugging Face hub",
        1_240_185,
        "synthetic",
        "unclear; drawn by Midjourney, collected by others",
        "Parquet files from the hub; four pictures an id",
        stages=ALL,
    ),
    "textatlas5m": Entry(
        "TextAtlas5M, ten subsets",
        "CSU-JPG/TextAtlas5M on the Hugging Face hub",
        5_397_762,
        "text",
        "mixed: pages and covers belong to their authors",
        'Parquet files from the hub, one subset at a time: --key "CoverBook:{image_path}", and so on',
        stages=ALL,
        layout=Layout(key="{image_path}", image="image", annotation="annotation"),
        captioner="annotated",
    ),
    "renderedtext": Entry(
        "RenderedText",
        "wendlerc/RenderedText on the Hugging Face hub",
        11_977_824,
        "text",
        "none stated (asked for on the hub in December 2024, without an answer there)",
        "tars in webdataset's layout from the hub",
        read="discussion 2 of wendlerc/RenderedText",
        layout=Layout(key="{__key__}", annotation="ocr_annotation"),
        keyed=True,
        captioner="rendered",
    ),
}
