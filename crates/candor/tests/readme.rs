//! Runs the README's tour: each command of its `console` blocks, in order, must print what stands below it. `...`
//! stands for the rest of a line.

mod support;

use std::process::Command;

#[test]
fn the_readme_is_true() {
    let root = support::root();
    let text = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let folder = support::folder();
    support::copy_folder(&root.join("examples"), &folder.path().join("examples"));
    let path = format!("{}:/usr/bin:/bin", std::path::Path::new(support::CANDOR).parent().expect("a folder").display());
    let mut commands = 0;
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("a block ends");
        let mut lines = block.lines().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").expect("a command");
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                expected.push(line);
            }
            let output = Command::new("sh")
                .args(["-c", &format!("{command} 2>&1")])
                .current_dir(folder.path())
                .env("PATH", &path)
                .output()
                .expect("a shell");
            let said = String::from_utf8_lossy(&output.stdout);
            let said: Vec<&str> = said.lines().collect();
            let fits = said.len() == expected.len()
                && said.iter().zip(&expected).all(|(said, expected)| match expected.strip_suffix("...") {
                    Some(start) => said.starts_with(start),
                    None => said == expected,
                });
            assert!(fits, "{command}\nsays {said:#?}\nthe README says {expected:#?}");
            commands += 1;
        }
    }
    assert!(commands > 10);
}
