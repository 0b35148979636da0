"""`python -m streamer_tools`: the same as the console script `streamer`."""

from streamer_tools.main import main

if __name__ == "__main__":
    main()
