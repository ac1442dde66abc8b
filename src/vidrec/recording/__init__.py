"""Who owns clips and finishes them: streams, names, publishing, what to keep, failures, the end of the process."""
