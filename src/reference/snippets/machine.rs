//! What a deployment of a virtual machine states of its image.

use super::quote::shell;
use super::tree::{Node, object, text};
use crate::image::gallery::{GalleryImage, Kind};
use crate::image::marketplace::MarketplaceImage;
use crate::image::{Status, Urn};
use time::OffsetDateTime;

/// What names an image in a deployment.
#[derive(Debug, Clone)]
pub(super) enum Reference {
    /// A marketplace image.
    Urn(Urn),
    /// An image of a gallery, or a managed image: its Resource Manager id.
    Resource(String),
    /// An image of a gallery that others share directly.
    Shared(String),
    /// An image of a gallery that is published to everyone.
    Community(String),
}

/// A purchase plan.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) publisher: String,
    pub(super) product: String,
    pub(super) name: String,
}

/// A virtual machine that is made from an image.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent properties of an image")]
pub(super) struct Machine {
    pub(super) reference: Reference,
    pub(super) plan: Option<Plan>,
    pub(super) is_windows: bool,
    pub(super) is_arm: bool,
    /// Whether the image contains the accounts of the machine that it was made from, so that
    /// deployments set none.
    pub(super) is_specialized: bool,
    /// Whether the image is a managed image, which has no versions.
    pub(super) is_managed: bool,
    /// What to know before the code is used.
    pub(super) notes: Vec<String>,
}

fn plan(
    publisher: Option<&String>,
    product: Option<&String>,
    name: Option<&String>,
) -> Option<Plan> {
    let [publisher, product, name] = [publisher?, product?, name?].map(Clone::clone);
    Some(Plan { publisher, product, name })
}

fn about_status(status: Option<Status>, ends_at: Option<OffsetDateTime>) -> Option<String> {
    let day = ends_at.map(|at| at.date().to_string());
    Some(match (status?, day) {
        (Status::Gone, _) => "The image is no longer listed: deployments fail.".to_owned(),
        (Status::Deprecated, Some(day)) => {
            format!("The image was deprecated on {day}: new deployments fail.")
        }
        (Status::Deprecated, None) => "The image is deprecated: new deployments fail.".to_owned(),
        (Status::EndOfLife, _) => {
            "The image is past the end of life that its owner declared.".to_owned()
        }
        (_, Some(day)) => format!("The image can be deployed until {day}."),
        (_, None) => return None,
    })
}

impl Machine {
    pub(super) fn of_marketplace(image: &MarketplaceImage) -> Self {
        let parts = (&image.plan_publisher, &image.plan_product, &image.plan_name);
        let plan = plan(parts.0.as_ref(), parts.1.as_ref(), parts.2.as_ref());
        let mut notes = Vec::from_iter(about_status(image.status, image.scheduled_deprecation_at));
        if !image.is_detailed() {
            notes.push(
                "The details of the image are not known: whether it has a purchase plan, and \
                 whether it is for Windows. A crawl with --details latest finds them."
                    .to_owned(),
            );
        }
        if plan.is_some() {
            let command = format!("az vm image terms accept --urn {}", shell(&image.id));
            notes.push(terms(&command));
        }
        Self::new(Reference::Urn(image.urn()), plan, image.os.as_ref(), image.architecture.as_ref())
            .with_notes(notes)
    }

    pub(super) fn of_gallery(image: &GalleryImage) -> Self {
        let parts = (&image.plan_publisher, &image.plan_product, &image.plan_name);
        let plan = plan(parts.0.as_ref(), parts.1.as_ref(), parts.2.as_ref());
        let mut notes = Vec::from_iter(about_status(Some(image.status), image.end_of_life_at));
        if image.kind == Kind::GalleryDefinition {
            notes.push("The id has no version, so Azure deploys the latest one.".to_owned());
        }
        if let Some(Plan { publisher, product, name }) = &plan {
            let [publisher, product, name] = [publisher, product, name].map(|text| shell(text));
            let command = format!(
                "az vm image terms accept --publisher {publisher} --offer {product} --plan {name}"
            );
            notes.push(terms(&command));
        }
        let id = image.id.clone();
        let begins =
            |with: &str| id.get(..with.len()).is_some_and(|id| id.eq_ignore_ascii_case(with));
        let reference = if begins("/CommunityGalleries/") {
            Reference::Community(id)
        } else if begins("/SharedGalleries/") {
            Reference::Shared(id)
        } else {
            Reference::Resource(id)
        };
        let machine = Self::new(reference, plan, image.os.as_ref(), image.architecture.as_ref());
        let is_specialized =
            image.os_state.as_ref().is_some_and(|state| state.eq_ignore_ascii_case("Specialized"));
        let is_managed = image.kind == Kind::ManagedImage;
        Self { is_specialized, is_managed, ..machine }.with_notes(notes)
    }

    fn new(
        reference: Reference,
        plan: Option<Plan>,
        os: Option<&String>,
        architecture: Option<&String>,
    ) -> Self {
        let is = |value: Option<&String>, name| {
            value.is_some_and(|value| value.eq_ignore_ascii_case(name))
        };
        let (is_windows, is_arm) = (is(os, "Windows"), is(architecture, "Arm64"));
        Self {
            reference,
            plan,
            is_windows,
            is_arm,
            is_specialized: false,
            is_managed: false,
            notes: Vec::new(),
        }
    }

    fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        if self.is_arm {
            self.notes.push("The machine size must have an Arm64 processor.".to_owned());
        }
        if self.is_specialized {
            self.notes.push(
                "The image is specialized: machines keep the accounts of the one it was made from."
                    .to_owned(),
            );
        }
        self
    }

    /// A size that can run the image.
    pub(super) fn size(&self) -> &'static str {
        if self.is_arm { "Standard_D2ps_v5" } else { "Standard_D2s_v5" }
    }

    /// `Linux` or `Windows`.
    pub(super) fn os(&self) -> &'static str {
        if self.is_windows { "Windows" } else { "Linux" }
    }

    /// The text that names the image for tools that take one text: a URN or an id.
    pub(super) fn one_text(&self) -> String {
        match &self.reference {
            Reference::Urn(urn) => urn.to_string(),
            Reference::Resource(id) | Reference::Shared(id) | Reference::Community(id) => {
                id.clone()
            }
        }
    }

    /// The image as `imageReference` of Resource Manager.
    pub(super) fn image_reference(&self) -> Node {
        match &self.reference {
            Reference::Urn(urn) => urn_node(urn),
            Reference::Resource(id) => object([text("id", id)]),
            Reference::Shared(id) => object([text("sharedGalleryImageId", id)]),
            Reference::Community(id) => object([text("communityGalleryImageId", id)]),
        }
    }

    /// The purchase plan as Resource Manager has it.
    pub(super) fn plan(&self) -> Option<Node> {
        let Plan { publisher, product, name } = self.plan.as_ref()?;
        Some(object([text("name", name), text("product", product), text("publisher", publisher)]))
    }
}

fn terms(command: &str) -> String {
    format!("The image has a purchase plan. Accept its terms once in each subscription: {command}")
}

/// The parts of a URN.
pub(super) fn urn_node(urn: &Urn) -> Node {
    object([
        text("publisher", &urn.publisher),
        text("offer", &urn.offer),
        text("sku", &urn.sku),
        text("version", &urn.version),
    ])
}
