//! The world that a project implements: one of `witgate:policy`, or its own over it.

use crate::{Project, clear, save, unusable};
use std::fs;
use std::path::Path;
use wit_parser::{PackageId, Resolve, WorldId, WorldItem};

/// The contract, as the gateway has it.
pub const POLICY_WIT: &str = include_str!("../../../wit/policy.wit");

pub struct World {
    pub resolve: Resolve,
    pub id: WorldId,
}

impl World {
    /// # Errors
    /// Where the project's own WIT is wrong; which worlds there are, if it names none of them.
    pub fn of(project: &Project) -> Result<World, String> {
        let mut resolve = Resolve::default();
        let policy = push_contract(&mut resolve)?;
        let own = project.folder.join("wit");
        let own = match own.is_dir() {
            true => match resolve.push_dir(&own) {
                Ok((package, _)) => Some(package),
                Err(error) => return Err(resolve.render_error(&error)),
            },
            false => None,
        };
        let found = own
            .into_iter()
            .chain([policy])
            .find_map(|package| resolve.packages[package].worlds.get(&project.world).copied());
        match found {
            Some(id) => Ok(World { resolve, id }),
            None => Err(unknown(&resolve, own, policy, project)),
        }
    }

    /// Its interfaces by their full and their short names: `witgate:policy/rate-limit@0.1.0`, `rate-limit`.
    pub fn interfaces(&self) -> Vec<(String, String)> {
        let world = &self.resolve.worlds[self.id];
        let items = world.imports.values().chain(world.exports.values());
        let named = items.filter_map(|item| match item {
            WorldItem::Interface { id, .. } => {
                Some((self.resolve.id_of(*id)?, self.resolve.interfaces[*id].name.clone()?))
            }
            WorldItem::Function(_) | WorldItem::Type { .. } => None,
        });
        named.collect()
    }

    /// Writes the project's WIT into `folder`, as tools want it: the package with the world on top,
    /// those that it uses in `deps/`.
    ///
    /// # Errors
    /// As `of`, which knows better what is wrong than tools do; what cannot be written.
    pub fn write(project: &Project, folder: &Path) -> Result<(), String> {
        World::of(project)?;
        clear(folder)?;
        let own = project.folder.join("wit");
        if !own.is_dir() {
            return save(&folder.join("policy.wit"), POLICY_WIT.as_bytes());
        }
        save(&folder.join("deps/witgate-policy/policy.wit"), POLICY_WIT.as_bytes())?;
        for entry in fs::read_dir(&own).map_err(|error| unusable(&own, &error))? {
            let path = entry.map_err(|error| unusable(&own, &error))?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                save(&folder.join(name), &fs::read(&path).map_err(|error| unusable(&path, &error))?)?;
            }
        }
        Ok(())
    }
}

/// `witgate:policy`, parsed.
///
/// # Errors
/// None that a test would not have found.
pub fn contract() -> Result<(Resolve, PackageId), String> {
    let mut resolve = Resolve::default();
    let package = push_contract(&mut resolve)?;
    Ok((resolve, package))
}

/// `witgate:policy` in `resolve`.
pub(crate) fn push_contract(resolve: &mut Resolve) -> Result<PackageId, String> {
    resolve.push_str("policy.wit", POLICY_WIT).map_err(|error| resolve.render_error(&error))
}

fn unknown(resolve: &Resolve, own: Option<PackageId>, policy: PackageId, project: &Project) -> String {
    let packages = own.into_iter().chain([policy]);
    let names: Vec<_> =
        packages.flat_map(|package| resolve.packages[package].worlds.keys()).map(String::as_str).collect();
    format!("{}: world: {:?} is none of {}", crate::MANIFEST, project.world, names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Language;

    fn project(folder: &Path, world: &str) -> Project {
        Project { folder: folder.to_path_buf(), name: "p".into(), language: Language::C, world: world.into() }
    }

    #[test]
    fn worlds_of_the_contract_and_of_the_project() {
        let folder = tempfile::tempdir().unwrap();
        let world = World::of(&project(folder.path(), "header-policy")).unwrap();
        let limit = ("witgate:policy/rate-limit@0.1.0".to_string(), "rate-limit".to_string());
        assert!(world.interfaces().contains(&limit));
        let why = World::of(&project(folder.path(), "all-hooks")).err().unwrap();
        assert!(why.contains("\"all-hooks\" is none of request-policy, header-policy"), "{why}");

        let own = "package mine:policies;\nworld all-hooks {\n  include witgate:policy/header-policy@0.1.0;\n  \
                   export on-tick: func() -> result<_, string>;\n}\n";
        save(&folder.path().join("wit/own.wit"), own.as_bytes()).unwrap();
        let world = World::of(&project(folder.path(), "all-hooks")).unwrap();
        assert!(world.interfaces().contains(&limit));
        assert!(World::of(&project(folder.path(), "log-policy")).is_ok());

        let written = folder.path().join("build/wit");
        World::write(&project(folder.path(), "all-hooks"), &written).unwrap();
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(&written).unwrap();
        assert!(resolve.packages[package].worlds.contains_key("all-hooks"));

        save(&folder.path().join("wit/own.wit"), b"package mine:policies;\nwrold w {}").unwrap();
        let why = World::of(&project(folder.path(), "all-hooks")).err().unwrap();
        assert!(why.contains("own.wit:2"), "{why}");
    }
}
