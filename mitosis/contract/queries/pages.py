"""What the pages of lists have in common."""

DEFAULT_PAGE = 50
