"""Sources of files: folders, lists, tar files, data sets of the datasets library; official splits."""
