//! The annotations by which an index of the OCI image layout names its images.

/// The annotation that names an image of a layout.
pub(super) const NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation of a layout's index that has an image's full name, which Docker, Podman and containerd read.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
