"""The pages in the browser. They read files and never load torch."""
