"""Published files as data: a catalogue of what there is, and a downloader that can be trusted with it."""
