//! Files that declare a machine: Bicep, ARM templates, Terraform and Pulumi.

use super::machine::{Machine, Reference, urn_node};
use super::tree::{ARM, BICEP, Node, TYPESCRIPT, hcl, object, text};
use std::fmt::Write;

/// The version of the API of virtual machines in templates.
const API: &str = "2024-07-01";

/// What a file takes as a parameter: its name, and whether it is a secret.
fn parameters(machine: &Machine) -> Vec<(&'static str, bool)> {
    let mut parameters = vec![("networkInterfaceId", false)];
    if !machine.is_specialized {
        parameters.push(if machine.is_windows {
            ("adminPassword", true)
        } else {
            ("sshPublicKey", false)
        });
    }
    parameters
}

/// The profile of the operating system, without which Azure deploys no generalized image.
fn os_profile(machine: &Machine) -> Option<(&'static str, Node)> {
    if machine.is_specialized {
        return None;
    }
    let own = if machine.is_windows {
        ("adminPassword", Node::Parameter("adminPassword"))
    } else {
        let key = object([
            text("path", "/home/azureuser/.ssh/authorized_keys"),
            Some(("keyData", Node::Parameter("sshPublicKey"))),
        ]);
        let keys = object([Some(("publicKeys", Node::List(vec![key])))]);
        let linux = object([
            Some(("disablePasswordAuthentication", Node::Plain("true"))),
            Some(("ssh", keys)),
        ]);
        ("linuxConfiguration", linux)
    };
    let profile =
        object([text("computerName", "my-machine"), text("adminUsername", "azureuser"), Some(own)]);
    Some(("osProfile", profile))
}

/// The profiles of a machine, as Resource Manager and Pulumi have them.
fn profiles(machine: &Machine) -> Vec<Option<(&'static str, Node)>> {
    let size = object([text("vmSize", machine.size())]);
    let disk = object([text("createOption", "FromImage")]);
    let storage =
        object([Some(("imageReference", machine.image_reference())), Some(("osDisk", disk))]);
    let interface = object([Some(("id", Node::Parameter("networkInterfaceId")))]);
    let network = object([Some(("networkInterfaces", Node::List(vec![interface])))]);
    vec![
        Some(("hardwareProfile", size)),
        Some(("storageProfile", storage)),
        os_profile(machine),
        Some(("networkProfile", network)),
    ]
}

pub(super) fn bicep(machine: &Machine) -> String {
    let mut file = "param location string = resourceGroup().location\n".to_owned();
    for (name, is_secret) in parameters(machine) {
        let secure = if is_secret { "@secure()\n" } else { "" };
        let _ = writeln!(file, "{secure}param {name} string");
    }
    let resource = object([
        text("name", "my-machine"),
        Some(("location", Node::Parameter("location"))),
        machine.plan().map(|plan| ("plan", plan)),
        Some(("properties", object(profiles(machine)))),
    ]);
    let resource = BICEP.write(&resource, 0);
    file + &format!("\nresource machine 'Microsoft.Compute/virtualMachines@{API}' = {resource}\n")
}

pub(super) fn arm(machine: &Machine) -> String {
    let declared = parameters(machine).into_iter().map(|(name, is_secret)| {
        Some((name, object([text("type", if is_secret { "secureString" } else { "string" })])))
    });
    let resource = object([
        text("type", "Microsoft.Compute/virtualMachines"),
        text("apiVersion", API),
        text("name", "my-machine"),
        Some(("location", Node::Plain("\"[resourceGroup().location]\""))),
        machine.plan().map(|plan| ("plan", plan)),
        Some(("properties", object(profiles(machine)))),
    ]);
    let file = object([
        text(
            "$schema",
            "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        ),
        text("contentVersion", "1.0.0.0"),
        Some(("parameters", object(declared))),
        Some(("resources", Node::List(vec![resource]))),
    ]);
    ARM.write(&file, 0) + "\n"
}

pub(super) fn pulumi(machine: &Machine) -> String {
    let mut file = "import * as pulumi from \"@pulumi/pulumi\";\n\
                    import * as azure from \"@pulumi/azure-native\";\n\n\
                    const config = new pulumi.Config();\n"
        .to_owned();
    for (name, is_secret) in [("resourceGroupName", false)].into_iter().chain(parameters(machine)) {
        let require = if is_secret { "requireSecret" } else { "require" };
        let _ = writeln!(file, "const {name} = config.{require}(\"{name}\");");
    }
    let arguments = object(
        [
            Some(("resourceGroupName", Node::Parameter("resourceGroupName"))),
            machine.plan().map(|plan| ("plan", plan)),
        ]
        .into_iter()
        .chain(profiles(machine)),
    );
    let arguments = TYPESCRIPT.write(&arguments, 0);
    file + &format!(
        "\nconst machine = new azure.compute.VirtualMachine(\"my-machine\", {arguments});\n"
    )
}

/// The resource of the `azurerm` provider, which has none for specialized images.
pub(super) fn terraform(machine: &Machine) -> Option<String> {
    if machine.is_specialized {
        return None;
    }
    let disk = object([text("caching", "ReadWrite"), text("storage_account_type", "Premium_LRS")]);
    let (kind, secret, key) = if machine.is_windows {
        ("windows", Some(("admin_password", Node::Parameter("admin_password"))), None)
    } else {
        let key = object([
            text("username", "azureuser"),
            Some(("public_key", Node::Parameter("ssh_public_key"))),
        ]);
        ("linux", None, Some(("admin_ssh_key", key)))
    };
    let (id, reference) = match &machine.reference {
        Reference::Urn(urn) => (None, Some(("source_image_reference", urn_node(urn)))),
        Reference::Resource(id) | Reference::Shared(id) | Reference::Community(id) => {
            (text("source_image_id", id), None)
        }
    };
    let interfaces = Node::List(vec![Node::Parameter("network_interface_id")]);
    let resource = object([
        text("name", "my-machine"),
        Some(("resource_group_name", Node::Parameter("resource_group_name"))),
        Some(("location", Node::Parameter("location"))),
        text("size", machine.size()),
        text("admin_username", "azureuser"),
        secret,
        Some(("network_interface_ids", interfaces)),
        id,
        key,
        reference,
        machine.plan().map(|plan| ("plan", plan)),
        Some(("os_disk", disk)),
    ]);
    let resource = hcl(&resource, 1);
    Some(format!("resource \"azurerm_{kind}_virtual_machine\" \"machine\" {{\n{resource}}}\n"))
}
