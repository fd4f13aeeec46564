"""``python -m lightning_qsgd``: the same as the command ``lightning-qsgd``."""

from lightning_qsgd.cli.main import main

if __name__ == "__main__":
    main()
