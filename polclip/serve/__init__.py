"""The page of `polclip serve`: a model in a browser, with the JSON interface that the page itself uses."""
