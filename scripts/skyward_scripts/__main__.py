"""``python -m skyward_scripts`` is the command ``skyward-mesh``."""

from skyward_scripts.cli import main

if __name__ == "__main__":
    main(prog_name="skyward-mesh")
