"""What acts on the image model beside the motion module, as diffusers has it."""
