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
        Language::Go => &[
            ("plugin.yaml", include_str!("../template/go/plugin.yaml")),
            ("src/policy.go", include_str!("../template/go/src/policy.go")),
        ],
        Language::JavaScript => &[
            ("plugin.yaml", include_str!("../template/javascript/plugin.yaml")),
            ("src/policy.js", include_str!("../template/javascript/src/policy.js")),
            ("jsconfig.json", include_str!("../template/javascript/jsconfig.json")),
        ],
        Language::TypeScript => &[
            ("plugin.yaml", include_str!("../template/typescript/plugin.yaml")),
            ("src/policy.ts", include_str!("../template/typescript/src/policy.ts")),
            ("tsconfig.json", include_str!("../template/typescript/tsconfig.json")),
        ],
        Language::Python => &[
            ("plugin.yaml", include_str!("../template/python/plugin.yaml")),
            ("src/policy.py", include_str!("../template/python/src/policy.py")),
            ("pyrightconfig.json", include_str!("../template/python/pyrightconfig.json")),
        ],
        Language::Cpp => &[
            ("plugin.yaml", include_str!("../template/cpp/plugin.yaml")),
            ("src/policy.cpp", include_str!("../template/cpp/src/policy.cpp")),
            ("compile_flags.txt", include_str!("../template/cpp/compile_flags.txt")),
        ],
        Language::Zig => &[
            ("plugin.yaml", include_str!("../template/zig/plugin.yaml")),
            ("src/policy.zig", include_str!("../template/zig/src/policy.zig")),
        ],
    };
    let shared: &[(&str, &str)] = &[
        ("tests/cases.yaml", include_str!("../template/shared/cases.yaml")),
        ("README.md", include_str!("../template/shared/README.md")),
        (".gitignore", include_str!("../template/shared/gitignore")),
    ];
    files.iter().chain(shared).map(|(path, text)| (*path, text.replace(NAME, name))).collect()
}
