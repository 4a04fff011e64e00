"""Published SAEs: where they are, in which format, and how they become an `SAE`.

`Repository` is files from somewhere, `ReleaseSource` a format (a plugin of the kind `release`),
`Facts` what a catalogue knows, `Draft` an SAE in the one form that every format is brought to.
"""
