//! `witgate plugin new`: writes a plugin from the files of `template/`, or of `witgate_toolchain`.
//!
//! A crate on the SDK depends on it by path and starts from its lock file, so that the first build
//! takes the versions that the gateway was tested with, and none from the network that are here.
//! A plugin appears whole or not at all.

use super::{checkout, is_sdk};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use witgate_toolchain::{Language, POLICY_WIT};

#[derive(clap::Args)]
pub struct Arguments {
    /// The plugin's name: what its file and the configurations that use it will say
    name: String,
    /// rust, c, c++, zig, go, javascript, typescript or python
    #[arg(short, long, default_value = RUST)]
    language: String,
    /// The folder to make; by default one of the plugin's name, here
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// For Rust: the plugin SDK's folder; by default that of the checkout of witgate that is here,
    /// above or beside
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// For Rust: on the bare contract, by wit-bindgen
    #[arg(long, conflicts_with = "sdk")]
    no_sdk: bool,
}

const RUST: &str = "rust";

/// A crate's files: where they go, and what is in them. The manifest is not called Cargo.toml
/// here, because cargo would take its folder for another package.
const ON_THE_SDK: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/rust/manifest.toml")),
    ("src/lib.rs", include_str!("template/rust/lib.rs")),
    (".cargo/config.toml", include_str!("template/rust/cargo-config.toml")),
    ("tests/cases.yaml", include_str!("template/rust/cases.yaml")),
    (".gitignore", include_str!("template/rust/gitignore")),
    ("README.md", include_str!("template/rust/README.md")),
];
const WITHOUT_SDK: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/rust-no-sdk/manifest.toml")),
    ("src/lib.rs", include_str!("template/rust-no-sdk/lib.rs")),
    ("wit/policy.wit", POLICY_WIT),
    (".cargo/config.toml", include_str!("template/rust/cargo-config.toml")),
    ("tests/cases.yaml", include_str!("template/rust/cases.yaml")),
    (".gitignore", include_str!("template/rust/gitignore")),
    ("README.md", include_str!("template/rust-no-sdk/README.md")),
];
/// What stands in the files for the plugin's name, and in the manifest for the SDK's path.
const NAME: &str = "plugin-name";
const SDK: &str = "\"plugin-sdk\"";

/// A file name with `.wasm` after it, a package name, and a word in metrics and logs.
const NAME_BYTES_MAX: usize = 64;

/// A plugin's files, relative to its folder.
type Files = Vec<(&'static str, String)>;

/// Makes the plugin; returns what there is to say.
///
/// # Errors
/// Why there is none.
pub fn run(arguments: &Arguments) -> Result<String, String> {
    let name = &arguments.name;
    check(name)?;
    let language = match arguments.language.eq_ignore_ascii_case(RUST) {
        true => None,
        false => Some(Language::named(&arguments.language).map_err(|why| why.replace(": c,", ": rust, c,"))?),
    };
    let folder = arguments.path.clone().unwrap_or_else(|| PathBuf::from(name));
    if folder.symlink_metadata().is_ok() {
        return Err(format!("{} is there already; --path makes another folder", folder.display()));
    }
    let whole = whole(&folder)?;
    let (files, sdk) = match language {
        Some(_) if arguments.sdk.is_some() || arguments.no_sdk => {
            return Err("--sdk and --no-sdk are for Rust: the other languages have no SDK to choose".into());
        }
        Some(language) => (witgate_toolchain::scaffold(language, name), None),
        None if arguments.no_sdk => (named(WITHOUT_SDK, name), None),
        None => {
            let sdk = sdk(arguments.sdk.as_deref(), &whole)?;
            (on_the_sdk(&whole, name, &sdk)?, Some(sdk))
        }
    };
    write(&whole, name, &files)?;
    Ok(told(name, &folder, language, sdk.as_deref()))
}

fn sdk(given: Option<&Path>, folder: &Path) -> Result<PathBuf, String> {
    match given {
        Some(sdk) if is_sdk(sdk) => fs::canonicalize(sdk).map_err(|error| unusable(sdk, &error)),
        Some(sdk) => Err(format!("{} is not the plugin SDK of witgate", sdk.display())),
        None => beside(folder).ok_or_else(|| {
            "the plugin SDK was not found: run this in or beside a checkout of witgate, name its \
             `plugin-sdk` folder by --sdk, or do without it by --no-sdk"
                .into()
        }),
    }
}

fn told(name: &str, folder: &Path, language: Option<Language>, sdk: Option<&Path>) -> String {
    let folder = folder.display();
    let source = language.map_or("lib.rs".into(), |language| format!("policy.{}", language.extension()));
    let mut text = format!("wrote {folder}: src/{source} is the policy, README.md tells how to go on\n");
    if let Some(sdk) = sdk {
        text += &format!("  SDK        {}\n", sdk.display());
        text += &format!("  try it     cargo test --manifest-path {folder}/Cargo.toml\n");
    }
    text +=
        &format!("  build it   witgate plugin build {folder}\n  try it     witgate plugin test {folder}\n");
    if witgate_plugins::PLUGINS.iter().any(|plugin| plugin.name == name) {
        text += &format!("  note       it will take the place of the gateway's own `{name}`\n");
    }
    text
}

/// The absolute path of a folder that is not there yet, in one that must be.
fn whole(folder: &Path) -> Result<PathBuf, String> {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = folder.file_name().ok_or_else(|| format!("{} names no new folder", folder.display()))?;
    fs::canonicalize(parent).map(|parent| parent.join(name)).map_err(|error| unusable(parent, &error))
}

/// The SDK of the checkout around `folder` or this program, or of one that lies beside `folder`.
fn beside(folder: &Path) -> Option<PathBuf> {
    let sibling =
        || folder.parent().map(|parent| parent.join("witgate/plugin-sdk")).filter(|sdk| is_sdk(sdk));
    checkout(folder).map(|checkout| checkout.join("plugin-sdk")).or_else(sibling)
}

fn named(files: &[(&'static str, &str)], name: &str) -> Files {
    files.iter().map(|(file, template)| (*file, template.replace(NAME, name))).collect()
}

fn on_the_sdk(folder: &Path, name: &str, sdk: &Path) -> Result<Files, String> {
    let path = relative(folder, sdk);
    // A JSON string is a TOML string.
    let path = path.to_str().ok_or_else(|| format!("{} is not UTF-8, as cargo wants it", path.display()))?;
    let path = serde_json::Value::from(path).to_string();
    let mut files = named(ON_THE_SDK, name);
    for (_, text) in &mut files {
        *text = text.replace(SDK, &path);
    }
    let lock = sdk.parent().map(|checkout| checkout.join("Cargo.lock")).filter(|lock| lock.is_file());
    if let Some(lock) = lock {
        files.push(("Cargo.lock", fs::read_to_string(&lock).map_err(|error| unusable(&lock, &error))?));
    }
    Ok(files)
}

/// Writes all files into a folder of another name, which takes its own when they are all there.
fn write(folder: &Path, name: &str, files: &Files) -> Result<(), String> {
    let unfinished = folder.with_file_name(format!(".{name}.{:016x}", crate::clock::random_u64()));
    let made = || -> io::Result<()> {
        for (file, text) in files {
            let target = unfinished.join(file);
            fs::create_dir_all(target.parent().unwrap_or(&unfinished))?;
            fs::write(target, text)?;
        }
        fs::rename(&unfinished, folder)
    };
    made().map_err(|error| {
        let _ = fs::remove_dir_all(&unfinished);
        unusable(folder, &error)
    })
}

/// `sdk` as seen from `folder` where both are below one folder that may be moved as a whole, the
/// one that holds the checkout; else as it is.
fn relative(folder: &Path, sdk: &Path) -> PathBuf {
    let around = sdk.parent().and_then(Path::parent).filter(|around| around.parent().is_some());
    let Some(around) = around else { return sdk.to_path_buf() };
    match (folder.strip_prefix(around), sdk.strip_prefix(around)) {
        (Ok(from), Ok(to)) => {
            let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
            let up = std::iter::repeat_n("..", from.components().count() - shared);
            up.map(Path::new)
                .chain(to.components().skip(shared).map(|part| Path::new(part.as_os_str())))
                .collect()
        }
        _ => sdk.to_path_buf(),
    }
}

fn unusable(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn check(name: &str) -> Result<(), String> {
    let mut why = match (is_well_formed(name), is_taken(name)) {
        (true, false) => return Ok(()),
        (true, true) => format!("{name:?} cannot be a plugin's name: Rust has a meaning for it"),
        (false, _) => format!(
            "{name:?} cannot be a plugin's name: 1 to {NAME_BYTES_MAX} of a to z, 0 to 9, `-` and `_`, the \
             first of them a letter"
        ),
    };
    if let Some(nearest) = nearest(name) {
        why += &format!("\ndid you mean `{nearest}`?");
    }
    Err(why)
}

fn is_well_formed(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

/// Whether a crate of this name could not be built: keywords, and the names of crates that are in
/// its scope.
fn is_taken(name: &str) -> bool {
    const TAKEN: &[&str] = &[
        "abstract",
        "alloc",
        "as",
        "async",
        "await",
        "become",
        "box",
        "break",
        "const",
        "continue",
        "core",
        "crate",
        "do",
        "dyn",
        "else",
        "enum",
        "extern",
        "false",
        "final",
        "fn",
        "for",
        "gen",
        "if",
        "impl",
        "in",
        "let",
        "loop",
        "macro",
        "match",
        "mod",
        "move",
        "mut",
        "override",
        "priv",
        "proc_macro",
        "pub",
        "ref",
        "return",
        "schemars",
        "self",
        "serde",
        "serde_json",
        "static",
        "std",
        "struct",
        "super",
        "test",
        "trait",
        "true",
        "try",
        "type",
        "typeof",
        "unsafe",
        "unsized",
        "use",
        "virtual",
        "where",
        "while",
        "wit_bindgen",
        "witgate",
        "witgate_plugin_sdk",
        "yield",
    ];
    TAKEN.contains(&&*name.replace('-', "_"))
}

/// The valid name that is most like `name`: `MyPolicy.wasm` becomes `my-policy`.
fn nearest(name: &str) -> Option<String> {
    let mut near = String::new();
    let mut after_lower = false;
    for letter in name.strip_suffix(".wasm").unwrap_or(name).chars().take(NAME_BYTES_MAX) {
        if letter.is_ascii_uppercase() && after_lower {
            near.push('-');
        }
        after_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        match letter.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9' | '_') => near.push(letter),
            _ if near.ends_with('-') => {}
            _ => near.push('-'),
        }
    }
    let mut near = near.trim_matches(['-', '_']).to_string();
    if near.starts_with(|first: char| first.is_ascii_digit()) {
        near.insert_str(0, "policy-");
    }
    near.truncate(NAME_BYTES_MAX);
    if is_taken(&near) {
        near += "-policy";
    }
    is_well_formed(&near).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdk() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("plugin-sdk")
    }

    fn arguments(name: &str, path: PathBuf, sdk: PathBuf) -> Arguments {
        Arguments {
            name: name.to_string(),
            language: RUST.into(),
            path: Some(path),
            sdk: Some(sdk),
            no_sdk: false,
        }
    }

    #[test]
    fn names() {
        for good in ["jwt", "my-policy", "p", "geo_2", &"a".repeat(64)] {
            assert_eq!(check(good), Ok(()));
        }
        let near = [
            ("MyPolicy", Some("my-policy")),
            ("my policy.wasm", Some("my-policy")),
            ("../../etc/passwd", Some("etc-passwd")),
            (".hidden", Some("hidden")),
            ("2fa", Some("policy-2fa")),
            ("HTTPGuard2X", Some("httpguard2-x")),
            ("match", Some("match-policy")),
            ("proc-macro", Some("proc-macro-policy")),
            ("witgate-plugin-sdk", Some("witgate-plugin-sdk-policy")),
            ("naïve", Some("na-ve")),
            ("", None),
            ("-", None),
            ("日本", None),
        ];
        for (bad, expected) in near {
            assert!(check(bad).is_err(), "{bad}");
            assert_eq!(nearest(bad).as_deref(), expected, "{bad}");
        }
        let long = nearest(&"aB".repeat(64)).unwrap();
        assert_eq!(check(&long), Ok(()));
    }

    #[test]
    fn a_crate_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quoted \"folder\"");
        let text = run(&arguments("my-policy", path.clone(), sdk())).unwrap();
        assert!(text.contains("witgate plugin build"), "{text}");
        for (file, _) in ON_THE_SDK {
            let text = fs::read_to_string(path.join(file)).unwrap();
            assert!(!text.contains(NAME) && !text.contains(SDK), "{file}");
        }
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"my-policy\""), "{manifest}");
        let dependency = manifest.lines().find(|line| line.starts_with("witgate")).unwrap();
        assert!(dependency.contains("plugin-sdk\" }"), "{dependency}");
        assert!(path.join("Cargo.lock").is_file());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_plugin_in_each_language() {
        let folder = tempfile::tempdir().unwrap();
        let names = Language::ALL.map(Language::name);
        for (number, language) in names.into_iter().chain(["Rust"]).enumerate() {
            let path = folder.path().join(number.to_string());
            let arguments = Arguments {
                name: "my-policy".into(),
                language: language.into(),
                path: Some(path.clone()),
                sdk: None,
                no_sdk: language == "Rust",
            };
            let text = run(&arguments).unwrap();
            assert!(text.contains("src/policy.") || language == "Rust", "{text}");
            for file in ["README.md", "tests/cases.yaml"] {
                let text = fs::read_to_string(path.join(file)).unwrap();
                assert!(text.contains("my-policy") && !text.contains(NAME), "{language}: {text}");
            }
            let with_sdk =
                Arguments { path: Some(path.join("x")), no_sdk: false, sdk: Some(sdk()), ..arguments };
            assert_eq!(run(&with_sdk).is_ok(), language == "Rust");
        }
        let unknown = Arguments { language: "rsut".into(), ..arguments("p", folder.path().join("p"), sdk()) };
        let why = run(&unknown).unwrap_err();
        assert!(why.contains("rust, c, c++, zig"), "{why}");
    }

    #[test]
    fn what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let why = run(&arguments("p", folder.path().to_path_buf(), sdk())).unwrap_err();
        assert!(why.contains("is there already"), "{why}");
        let missing = folder.path().join("no/such/p");
        assert!(run(&arguments("p", missing, sdk())).is_err());
        let no_sdk = run(&arguments("p", folder.path().join("p"), folder.path().to_path_buf())).unwrap_err();
        assert!(no_sdk.contains("is not the plugin SDK"), "{no_sdk}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_sdk_is_named_relative_to_a_crate_near_it() {
        let check = |folder: &str, expected: &str| {
            let path = relative(Path::new(folder), Path::new("/src/witgate/plugin-sdk"));
            assert_eq!(path, Path::new(expected), "{folder}");
        };
        check("/src/my-policy", "../witgate/plugin-sdk");
        check("/src/witgate/plugins/mine", "../../plugin-sdk");
        check("/src/witgate/mine", "../plugin-sdk");
        check("/elsewhere/mine", "/src/witgate/plugin-sdk");
        let at_the_root = relative(Path::new("/mine"), Path::new("/witgate/plugin-sdk"));
        assert_eq!(at_the_root, Path::new("/witgate/plugin-sdk"));
    }
}
