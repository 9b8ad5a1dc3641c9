"""What readers share: files listed, hashed and decoded, and sources of images and labels."""
