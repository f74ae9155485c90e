//! Commands of the Azure CLI and of Azure PowerShell.

use super::machine::{Machine, Reference};
use super::quote::{powershell as string, shell};

/// An option with a value. A value that begins with `-` would be another option.
fn option(name: &str, value: &str) -> String {
    let separator = if value.starts_with('-') { '=' } else { ' ' };
    format!("--{name}{separator}{}", shell(value))
}

/// `az vm create`.
pub(super) fn az(machine: &Machine) -> String {
    let mut words = vec![
        "az vm create".to_owned(),
        option("resource-group", "my-group"),
        option("name", "my-machine"),
        option("image", &machine.one_text()),
        option("size", machine.size()),
    ];
    if let Some(plan) = &machine.plan {
        words.push(option("plan-publisher", &plan.publisher));
        words.push(option("plan-product", &plan.product));
        words.push(option("plan-name", &plan.name));
    }
    if machine.is_specialized {
        words.push("--specialized".to_owned());
    } else {
        words.push(option("admin-username", "azureuser"));
        if !machine.is_windows {
            words.push("--generate-ssh-keys".to_owned());
        }
    }
    if matches!(machine.reference, Reference::Community(_)) {
        words.push("--accept-term".to_owned());
    }
    words.join(" \\\n  ") + "\n"
}

/// `New-AzVM`, with what it needs. `New-AzVMConfig` takes images that are shared directly; no
/// command of Azure PowerShell takes those of a community.
pub(super) fn powershell(machine: &Machine) -> Option<String> {
    let mut lines = vec![format!(
        "$vm = New-AzVMConfig -VMName 'my-machine' -VMSize {}",
        string(machine.size())
    )];
    let image = match &machine.reference {
        Reference::Urn(urn) => Some(format!(
            "-PublisherName {} -Offer {} -Skus {} -Version {}",
            string(&urn.publisher),
            string(&urn.offer),
            string(&urn.sku),
            string(&urn.version)
        )),
        Reference::Resource(id) => Some(format!("-Id {}", string(id))),
        Reference::Shared(id) => {
            lines[0].push_str(" -SharedGalleryImageId ");
            lines[0].push_str(&string(id));
            None
        }
        Reference::Community(_) => return None,
    };
    lines.extend(image.map(|image| format!("$vm = Set-AzVMSourceImage -VM $vm {image}")));
    if let Some(plan) = &machine.plan {
        lines.push(format!(
            "$vm = Set-AzVMPlan -VM $vm -Publisher {} -Product {} -Name {}",
            string(&plan.publisher),
            string(&plan.product),
            string(&plan.name)
        ));
    }
    if !machine.is_specialized {
        lines.push(format!(
            "$vm = Set-AzVMOperatingSystem -VM $vm -{} -ComputerName 'my-machine' -Credential \
             (Get-Credential)",
            machine.os()
        ));
    }
    lines.push("$vm = Add-AzVMNetworkInterface -VM $vm -Id $networkInterfaceId".to_owned());
    lines.push("New-AzVM -ResourceGroupName 'my-group' -Location 'eastus' -VM $vm".to_owned());
    Some(lines.join("\n") + "\n")
}
