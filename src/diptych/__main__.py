"""`python -m diptych`, for torchrun and for where no script is installed."""

from diptych.cli import main

main()
