"""The embedded corpus: a small drawn world and its official raw files.

``sample_scene`` makes a Scene of SceneObjects, ``draw`` turns it into a picture, the modules vqa, gqa,
nlvr2 and captions speak about it, and ``generate_world`` writes a whole corpus of them.
"""
