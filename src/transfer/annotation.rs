//! Annotations that name the images in the index of an OCI image layout.

/// The annotation with the name of an image in a layout.
pub(super) const NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with the full name of an image, which Docker, Podman and containerd read.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
