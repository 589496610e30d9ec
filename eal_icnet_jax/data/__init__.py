"""From folders of images to prepared datasets, and from those to examples and training batches."""
