"""Pictures and labelled images: readers of each format and data set."""
