//! An image in the languages that deploy it: code to copy, with the image's exact reference, its
//! purchase plan, and placeholders for everything else.
//!
//! Names of images are texts of strangers. Each language writes them by its function in [`quote`],
//! so that none can leave its literal.

mod container;
mod machine;
mod packages;
pub mod quote;
mod shells;
mod templates;
mod tree;

use crate::error::{Error, Result};
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::{self, MarketplaceImage};
use crate::image::names::ClosedSet;
use crate::image::registry::{self, RegistryImage};
use machine::Machine;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// The names of all forms, in the order in which they are shown.
pub const FORMS: ClosedSet = ClosedSet {
    what: "form",
    names: &[
        "az",
        "powershell",
        "bicep",
        "arm",
        "terraform",
        "packer",
        "ansible",
        "pulumi",
        "cluster-api",
        "docker",
        "kubernetes",
        "dockerfile",
        "oras",
    ],
};

/// An image in one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snippet {
    /// The name of the form, such as `terraform`.
    #[serde(rename = "as")]
    pub form: &'static str,
    /// The name of the tool, as people write it.
    pub title: &'static str,
    /// The language, as code blocks of Markdown name it.
    pub language: &'static str,
    /// The code, with a line break at the end.
    pub text: String,
}

/// An image in all languages that can deploy it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snippets {
    /// The forms, in the order of their names' table.
    pub value: Vec<Snippet>,
    /// What to know before the code is used: an end of life, terms to accept, a machine size.
    pub notes: Vec<String>,
}

impl Snippets {
    /// Adds a form, unless the language has none for the image.
    fn add(
        &mut self,
        form: &'static str,
        [title, language]: [&'static str; 2],
        text: Option<String>,
    ) {
        self.value.extend(text.map(|text| Snippet { form, title, language, text }));
    }

    /// Keeps one form.
    ///
    /// # Errors
    /// The language has no form for the image.
    pub fn only(mut self, form: &str, id: &str) -> Result<Self> {
        let names: Vec<&str> = self.value.iter().map(|snippet| snippet.form).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        self.value.retain(|snippet| snippet.form == form);
        if self.value.is_empty() {
            let text = format!("{id} cannot be written as {form}; its forms are {names}");
            return Err(Error::not_found(text));
        }
        Ok(self)
    }
}

/// The snippets of a row of any table, as lookups return it.
///
/// # Errors
/// The row is not one of an image.
pub fn snippets(row: &Value) -> Result<Snippets> {
    let corrupt = |error| Error::corrupt(format!("a row of the snapshot cannot be read ({error})"));
    let kind = row["kind"].as_str().unwrap_or_default();
    if kind == registry::KIND {
        let image: RegistryImage = serde_json::from_value(row.clone()).map_err(corrupt)?;
        return Ok(container::snippets(&image));
    }
    let machine = if kind == marketplace::KIND {
        let image: MarketplaceImage = serde_json::from_value(row.clone()).map_err(corrupt)?;
        Machine::of_marketplace(&image)
    } else {
        let image: GalleryImage = serde_json::from_value(row.clone()).map_err(corrupt)?;
        Machine::of_gallery(&image)
    };
    let mut all = Snippets { notes: machine.notes.clone(), ..Snippets::default() };
    all.add("az", ["Azure CLI", "shell"], Some(shells::az(&machine)));
    all.add("powershell", ["PowerShell", "powershell"], shells::powershell(&machine));
    all.add("bicep", ["Bicep", "bicep"], Some(templates::bicep(&machine)));
    all.add("arm", ["ARM template", "json"], Some(templates::arm(&machine)));
    all.add("terraform", ["Terraform", "hcl"], templates::terraform(&machine));
    all.add("packer", ["Packer", "hcl"], packages::packer(&machine));
    all.add("ansible", ["Ansible", "yaml"], packages::ansible(&machine));
    all.add("pulumi", ["Pulumi", "typescript"], Some(templates::pulumi(&machine)));
    all.add("cluster-api", ["Cluster API", "yaml"], packages::cluster_api(&machine));
    Ok(all)
}
