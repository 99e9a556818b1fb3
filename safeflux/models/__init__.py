"""One file per architecture: what its blocks are called, where its units sit, how it is fed and sampled."""
