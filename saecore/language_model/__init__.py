"""The Python front that users of SAELens 3 to 5 know, as thin translations into experiments."""
