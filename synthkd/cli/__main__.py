"""`python -m synthkd.cli`: the same as `synthkd`, for where the script is not on the path."""

from synthkd.cli import main

if __name__ == "__main__":
    main()
