"""`python -m minipig` is the command `minipig`."""

from minipig.cli import main

raise SystemExit(main())
