"""`python -m reasonpack`: the same as the `reasonpack` command."""

from reasonpack.cli import main

if __name__ == "__main__":
    main()
