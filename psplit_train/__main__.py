"""`python -m psplit_train`, which torchrun and accelerate start."""

import sys

from psplit_train.cli import main

sys.exit(main())
