"""What runs on an accelerator: CUDA where there is one (`make test-gpu`), and one that pretends to be everywhere."""
