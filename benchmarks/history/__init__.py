"""Our own figures from commit to commit, for asv."""
