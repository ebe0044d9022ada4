"""What a data set is made of beside its image and caption files: masks, and metadata files."""
