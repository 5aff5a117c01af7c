//! The files of a new project, by language.

use crate::Language;

/// What stands in the files for the plugin's name.
const NAME: &str = "plugin-name";

/// Paths and texts of a project called `name`: a policy that builds, does something useful, and
/// has its cases and a README of one screen.
pub fn scaffold(language: Language, name: &str) -> Vec<(&'static str, String)> {
    let files: &[(&str, &str)] = match language {
        Language::C => &[
            ("plugin.yaml", include_str!("../template/c/plugin.yaml")),
            ("src/policy.c", include_str!("../template/c/src/policy.c")),
            ("compile_flags.txt", include_str!("../template/c/compile_flags.txt")),
        ],
        _ => &[],
    };
    let shared: &[(&str, &str)] = &[
        ("tests/cases.yaml", include_str!("../template/shared/cases.yaml")),
        ("README.md", include_str!("../template/shared/README.md")),
        (".gitignore", include_str!("../template/shared/gitignore")),
    ];
    files.iter().chain(shared).map(|(path, text)| (*path, text.replace(NAME, name))).collect()
}
