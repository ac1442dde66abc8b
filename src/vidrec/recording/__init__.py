"""Who owns clips and finishes them: streams, failures, the end of the process, forks."""
