//! Tools that build on an image or set machines up: Packer, Ansible and Cluster API.

use super::machine::{Machine, Plan, Reference, urn_node};
use super::quote;
use super::tree::{Node, hcl, object, text, yaml};
use crate::image::resource_id::part;

/// Where a gallery's version is.
struct InGallery<'a> {
    subscription: &'a str,
    group: &'a str,
    gallery: &'a str,
    definition: &'a str,
    version: Option<&'a str>,
}

/// The parts of the id of an image in a gallery of ours; `None` for other images.
fn in_gallery(id: &str) -> Option<InGallery<'_>> {
    Some(InGallery {
        subscription: part(id, "subscriptions")?,
        group: part(id, "resourceGroups")?,
        gallery: part(id, "galleries")?,
        definition: part(id, "images")?,
        version: part(id, "versions"),
    })
}

/// The image from which Packer starts.
fn packer_image(machine: &Machine) -> Option<Vec<Option<(&'static str, Node)>>> {
    Some(match &machine.reference {
        Reference::Urn(urn) => vec![
            text("image_publisher", &urn.publisher),
            text("image_offer", &urn.offer),
            text("image_sku", &urn.sku),
            text("image_version", &urn.version),
        ],
        Reference::Resource(id) if machine.is_managed => vec![
            text("custom_managed_image_name", part(id, "images")?),
            text("custom_managed_image_resource_group_name", part(id, "resourceGroups")?),
        ],
        Reference::Resource(id) => {
            let place = in_gallery(id)?;
            let gallery = object([
                text("subscription", place.subscription),
                text("resource_group", place.group),
                text("gallery_name", place.gallery),
                text("image_name", place.definition),
                place.version.and_then(|version| text("image_version", version)),
            ]);
            vec![Some(("shared_image_gallery", gallery))]
        }
        Reference::Shared(id) => {
            let gallery = object([text("direct_shared_gallery_image_id", id)]);
            vec![Some(("shared_image_gallery", gallery))]
        }
        Reference::Community(id) => {
            let gallery = object([text("community_gallery_image_id", id)]);
            vec![Some(("shared_image_gallery", gallery))]
        }
    })
}

/// A template that builds a managed image on the image. Packer needs accounts of its own, so it
/// takes no specialized image.
pub(super) fn packer(machine: &Machine) -> Option<String> {
    if machine.is_specialized {
        return None;
    }
    let plan = machine.plan.as_ref().map(|Plan { publisher, product, name }| {
        let plan = object([
            text("plan_name", name),
            text("plan_product", product),
            text("plan_publisher", publisher),
        ]);
        ("plan_info", plan)
    });
    let connection = if machine.is_windows {
        vec![
            text("communicator", "winrm"),
            Some(("winrm_use_ssl", Node::Plain("true"))),
            Some(("winrm_insecure", Node::Plain("true"))),
            text("winrm_timeout", "5m"),
            text("winrm_username", "packer"),
        ]
    } else {
        Vec::new()
    };
    let first = [
        Some(("use_azure_cli_auth", Node::Plain("true"))),
        text("location", "eastus"),
        text("vm_size", machine.size()),
        text("os_type", machine.os()),
        text("managed_image_name", "my-image"),
        text("managed_image_resource_group_name", "my-group"),
    ];
    let source =
        object(first.into_iter().chain(connection).chain(packer_image(machine)?).chain([plan]));
    let source = hcl(&source, 1);
    Some(format!(
        r#"packer {{
  required_plugins {{
    azure = {{
      source  = "github.com/hashicorp/azure"
      version = "~> 2"
    }}
  }}
}}

source "azure-arm" "image" {{
{source}}}

build {{
  sources = ["source.azure-arm.image"]
}}
"#
    ))
}

/// A play with `azure_rm_virtualmachine`, whose `image` is a URN's parts or an `id`.
pub(super) fn ansible(machine: &Machine) -> Option<String> {
    let image = match &machine.reference {
        Reference::Urn(urn) => urn_node(urn),
        Reference::Resource(id) if !machine.is_specialized => object([text("id", id)]),
        _ => return None,
    };
    let mut accounts = vec![text("admin_username", "azureuser")];
    if machine.is_windows {
        accounts.push(Some(("admin_password", Node::Parameter("admin_password"))));
    } else {
        let key = object([
            text("path", "/home/azureuser/.ssh/authorized_keys"),
            Some(("key_data", Node::Parameter("ssh_public_key"))),
        ]);
        accounts.push(Some(("ssh_password_enabled", Node::Plain("false"))));
        accounts.push(Some(("ssh_public_keys", Node::List(vec![key]))));
    }
    let plan = machine.plan();
    let accept = plan.is_some().then_some(("accept_terms", Node::Plain("true")));
    let members = [
        text("resource_group", "my-group"),
        text("name", "my-machine"),
        text("vm_size", machine.size()),
        text("os_type", machine.os()),
    ];
    let last = [Some(("image", image)), plan.map(|plan| ("plan", plan)), accept];
    let module = object(members.into_iter().chain(accounts).chain(last));
    let task = object([
        text("name", "Create the machine"),
        Some(("azure.azcollection.azure_rm_virtualmachine", module)),
    ]);
    let whole = object([
        text("name", "Machine"),
        text("hosts", "localhost"),
        text("connection", "local"),
        Some(("gather_facts", Node::Plain("false"))),
        Some(("tasks", Node::List(vec![task]))),
    ]);
    Some(yaml(&Node::List(vec![whole]), 0, quote::ansible))
}

/// The image as `spec.template.spec.image` of an `AzureMachineTemplate`.
fn cluster_image(machine: &Machine) -> Option<Node> {
    let with_plan = |plan: &Plan| {
        let plan = object([
            text("publisher", &plan.publisher),
            text("offer", &plan.product),
            text("sku", &plan.name),
        ]);
        ("plan", plan)
    };
    Some(match &machine.reference {
        Reference::Urn(urn) => {
            let Node::Object(mut members) = urn_node(urn) else { return None };
            if machine.plan.is_some() {
                members.push(("thirdPartyImage", Node::Plain("true")));
            }
            object([Some(("marketplace", Node::Object(members)))])
        }
        Reference::Resource(id) if machine.is_managed => object([text("id", id)]),
        Reference::Resource(id) => {
            let place = in_gallery(id)?;
            let gallery = object([
                text("subscriptionID", place.subscription),
                text("resourceGroup", place.group),
                text("gallery", place.gallery),
                text("name", place.definition),
                text("version", place.version?),
                machine.plan.as_ref().map(with_plan),
            ]);
            object([Some(("computeGallery", gallery))])
        }
        Reference::Community(id) => {
            let gallery = object([
                text("gallery", part(id, "CommunityGalleries")?),
                text("name", part(id, "Images")?),
                text("version", part(id, "Versions")?),
                machine.plan.as_ref().map(with_plan),
            ]);
            object([Some(("computeGallery", gallery))])
        }
        Reference::Shared(_) => return None,
    })
}

/// A template of machines of a Kubernetes cluster.
pub(super) fn cluster_api(machine: &Machine) -> Option<String> {
    if machine.is_specialized {
        return None;
    }
    let disk = object([
        text("osType", machine.os()),
        Some(("diskSizeGB", Node::Plain("128"))),
        Some(("managedDisk", object([text("storageAccountType", "Premium_LRS")]))),
    ]);
    let spec = object([
        text("vmSize", machine.size()),
        Some(("osDisk", disk)),
        Some(("sshPublicKey", Node::Plain("\"\""))),
        Some(("image", cluster_image(machine)?)),
    ]);
    let file = object([
        text("apiVersion", "infrastructure.cluster.x-k8s.io/v1beta1"),
        text("kind", "AzureMachineTemplate"),
        Some(("metadata", object([text("name", "my-machines")]))),
        Some(("spec", object([Some(("template", object([Some(("spec", spec))])))]))),
    ]);
    let file = yaml(&file, 0, quote::yaml);
    Some(format!("# The image must contain the components of a Kubernetes node.\n{file}"))
}
