"""Evidence from an adapter's matrices alone: spectra, norms and shape of its updates.

No forward pass and no text. It claims nothing without benign adapters of the same base beside it.

May import what stands before the scanner.
"""
