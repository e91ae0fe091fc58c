"""Where images and their captions come from: folders, archives, tables."""
