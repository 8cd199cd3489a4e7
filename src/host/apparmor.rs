//! The AppArmor profile that gives sbx its user namespaces where others are denied them (apparmor.d(5);
//! Ubuntu 23.10 and later).

use std::path::{Path, PathBuf};

/// As installed by packages, for /usr/bin/sbx and /usr/local/bin/sbx.
const SHIPPED: &str = include_str!("../../contrib/apparmor/sbx");
const SHIPPED_PATH: &str = "/usr/{bin,local/bin}/sbx";
/// The comment of the shipped file speaks of the source tree.
const BODY: &str = "abi <abi/4.0>,";

/// Where the profile is kept.
pub const FILE: &str = "/etc/apparmor.d/sbx";

/// This very program, for profiles and messages.
pub fn own_binary() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/sbx"))
}

/// The profile for the program at `binary`, with the commands that install it as its head.
pub fn profile(binary: &Path) -> String {
    let body = SHIPPED.find(BODY).map_or(SHIPPED, |at| &SHIPPED[at..]);
    let body = body.replace(SHIPPED_PATH, &quoted(binary));
    let command = install_command(binary);
    format!("# AppArmor profile for sbx. Installed by:\n#   {command}\n\n{body}")
}

/// One line for a shell that writes the profile and loads it.
pub fn install_command(binary: &Path) -> String {
    let binary = shell_quoted(binary);
    format!(
        "{binary} doctor --apparmor-profile | sudo tee {FILE} >/dev/null && sudo apparmor_parser --replace {FILE}"
    )
}

/// A path as a literal of apparmor.d(5): in quotes, what would be a pattern or a variable escaped.
fn quoted(path: &Path) -> String {
    let mut text = String::from("\"");
    for c in path.display().to_string().chars() {
        if "?*[]{}^@\"\\".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_names_this_binary_and_not_the_shipped_paths() {
        let text = profile(Path::new("/home/ada/.cargo/bin/sbx"));
        assert!(
            text.contains("profile sbx \"/home/ada/.cargo/bin/sbx\" flags=(unconfined) {\n  userns,\n"),
            "{text}"
        );
        assert!(!text.contains(SHIPPED_PATH));
        assert!(text.contains("sudo apparmor_parser --replace /etc/apparmor.d/sbx"));
    }

    #[test]
    fn odd_paths_are_literals_to_apparmor_and_to_the_shell() {
        let path = Path::new("/opt/a {b}'s*/sbx");
        assert!(profile(path).contains(r#""/opt/a \{b\}'s\*/sbx""#));
        assert!(install_command(path).starts_with(r"'/opt/a {b}'\''s*/sbx' doctor"));
    }
}
