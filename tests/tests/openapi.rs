//! docs/openapi.yaml and the running agent say the same: every path, code and answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use workspace_tests::{
    agent::{Agent, Setup},
    binaries::repository,
    peer,
    process::free_address,
    require,
};

const TOKEN: &str = "token-of-the-orchestrator";
/// What the generated requests may run, and nothing beside it.
const HARMLESS: [&str; 5] = ["true", "false", "echo", "cat", "sleep"];
/// Requests for each call; with them a run takes less than a minute.
const EXAMPLES: &str = "60";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,event_conformance";

fn document() -> PathBuf {
    repository().join("docs/openapi.yaml")
}

fn page() -> Result<Value> {
    serde_saphyr::from_str(&fs::read_to_string(document())?).context("docs/openapi.yaml")
}

/// A program of the packages in tests/peers/requirements.txt.
fn program(name: &str) -> PathBuf {
    peer::python().with_file_name(name)
}

/// Runs a program that has to succeed. What it says otherwise is shown with its lines cut: those of
/// generated requests can be very long.
fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let shown: String =
        said.lines().flat_map(|line| line.chars().take(1000).chain(['\n'])).collect();
    ensure!(output.status.success(), "{command:?}\n{shown}");
    Ok(())
}

#[test]
fn the_document_is_valid() -> Result<()> {
    require!(PythonPackages);
    succeeds(Command::new(program("openapi-spec-validator")).arg(document()))
}

/// A search path with nothing but [`HARMLESS`] on it.
fn harmless_programs(directory: &Path) -> Result<PathBuf> {
    let bin = directory.join("bin");
    fs::create_dir(&bin)?;
    for name in HARMLESS {
        symlink(Path::new("/bin").join(name), bin.join(name))?;
    }
    Ok(bin)
}

/// Something for generated paths to lead to.
fn sample_tree(root: &Path) -> Result<()> {
    fs::create_dir(root.join("dir"))?;
    fs::write(root.join("dir/inner"), "inner\n")?;
    fs::write(root.join("file"), "content\n")?;
    symlink("file", root.join("link"))?;
    symlink("/etc", root.join("outward"))?;
    ensure!(Command::new("mkfifo").arg(root.join("fifo")).status()?.success(), "mkfifo failed");
    Ok(())
}

#[test]
fn generated_requests_are_answered_as_described() -> Result<()> {
    require!(PythonPackages);
    let setup = Setup::new()?;
    let path = harmless_programs(setup.directory())?;
    let agent = setup.env("PATH", &path.to_string_lossy()).token(TOKEN)?.on_tcp().start()?;
    sample_tree(&agent.root())?;
    let url = agent.client.endpoint().to_string();
    let hooks = peer::script("openapi");
    let mut schemathesis = Command::new(program("schemathesis"));
    schemathesis
        .current_dir(agent.directory())
        .env("PYTHONPATH", &hooks)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("AGENT_URL", &url)
        .env("AGENT_TOKEN", TOKEN)
        .env("AGENT_DOCUMENT", document())
        .arg("run")
        .arg(document())
        .args(["--url", &url, "--header", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--checks", CHECKS, "--max-examples", EXAMPLES, "--seed", "1"])
        .args(["--generation-database", "none", "--no-color", "--warnings", "off"])
        // They have no end of their own; the walk reads them.
        .args(["--exclude-operation-id", "events", "--exclude-operation-id", "attachProcess"])
        .args(["--exclude-operation-id", "watch"])
        // A manifest that is refused half-way cuts the answer, which began before.
        .args(["--exclude-operation-id", "diff", "--exclude-operation-id", "pullDifferences"])
        // Lines of JSON are nothing that it can write.
        .args(["--exclude-operation-id", "delta"])
        // What answers there is no agent; that nobody listens is a 502.
        .args(["--exclude-operation-id", "callPort"]);
    succeeds(&mut schemathesis).with_context(|| agent.daemon.output())?;
    ensure!(agent.client.get("/health")?.status() == 200, "it does not answer any more");
    Ok(())
}

#[test]
fn a_walk_through_every_call_meets_everything_that_is_described() -> Result<()> {
    require!(PythonPackages);
    let forward = free_address()?;
    let spec = format!("{forward}=unix:/nonexistent");
    // The walk listens until the end, and the agent serves on as long as somebody listens.
    let arguments = [
        ["--max-processes", "4"],
        ["--max-uploads", "4"],
        ["--upload-space", "1MiB"],
        ["--forward", &spec],
        ["--drain-timeout", "20s"],
    ]
    .concat();
    let agent = Setup::new()?.args(&arguments).token(TOKEN)?.on_tcp().start()?;
    let endpoint = agent.client.endpoint().to_string();
    let port = endpoint.rsplit(':').next().context("no port")?;
    let mut walk = Command::new(peer::python());
    walk.env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(peer::script("openapi/walk.py"))
        .arg(document())
        .args([port, TOKEN])
        .arg(agent.root())
        .arg(forward.port().to_string());
    succeeds(&mut walk).with_context(|| agent.daemon.output())
}

/// The paths of the document with the methods that stand below them.
fn described_paths() -> Result<BTreeMap<String, BTreeSet<String>>> {
    const METHODS: [&str; 6] = ["get", "head", "put", "post", "patch", "delete"];
    let page = page()?;
    let paths = page["paths"].as_object().context("no paths")?;
    let methods = |item: &Value| {
        let named = METHODS.iter().filter(|method| item.get(method).is_some());
        named.map(|method| method.to_uppercase()).collect()
    };
    Ok(paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect())
}

/// The path that takes every method, whatever is described of it.
const ANY_METHOD: &str = "/v1/ports/{port}/{path}";

#[test]
fn every_described_path_is_there_with_just_the_methods_that_are_described() -> Result<()> {
    let agent = Agent::start()?;
    for (path, mut described) in described_paths()? {
        if path == ANY_METHOD {
            continue;
        }
        let target = path.replace("{id}", "none").replace("{path}", "none");
        let reply = agent.client.send("OPTIONS", &target, b"")?;
        assert_eq!(reply.problem_code()?, "method_not_allowed", "{path}");
        let allow = reply.header("allow").with_context(|| format!("no Allow for {path}"))?;
        let mut allowed: BTreeSet<String> = allow.split(", ").map(str::to_owned).collect();
        if path == "/v1/files" {
            // They would write the root itself and are always refused.
            allowed.retain(|method| !matches!(method.as_str(), "PUT" | "DELETE"));
        }
        if allowed.contains("HEAD") {
            described.insert("HEAD".to_owned());
        }
        assert_eq!(described, allowed, "{path}");
    }
    Ok(())
}

/// The strings in the source of the routing between `begin` and the end of that function.
fn quoted(file: &str, begin: &str) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(repository().join(file))?;
    let (_, rest) = text.split_once(begin).with_context(|| format!("no '{begin}' in {file}"))?;
    let body = rest.split("\n}\n").next().unwrap_or_default();
    Ok(body.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

#[test]
fn every_path_of_the_program_is_described() -> Result<()> {
    let described = described_paths()?;
    let routed = quoted("agent/src/router.rs", "fn action(")?;
    ensure!(routed.contains("/health"), "the scan finds too little: {routed:?}");
    for word in routed.iter().filter(|word| !word.is_empty()) {
        let found = described.keys().any(|path| match word.strip_suffix('/') {
            Some(_) => path.starts_with(word.as_str()),
            None => path == word || path.ends_with(&format!("}}/{word}")),
        });
        ensure!(found, "the router knows '{word}', which is not described");
    }
    for word in quoted("agent/src/sync.rs", "pub async fn handle")? {
        if word.chars().all(|letter| letter.is_uppercase() || ", ".contains(letter)) {
            continue; // methods
        }
        ensure!(described.contains_key(&format!("/v1/sync/{word}")), "sync knows '{word}'");
    }
    Ok(())
}

/// The codes of the problems below a value, with their statuses.
fn problems(value: &Value, found: &mut BTreeSet<(String, u64)>) {
    match value {
        Value::Object(fields) => {
            if let (Some(code), Some(status)) = (
                fields.get("code"),
                fields.get("status").and_then(|status| status["const"].as_u64()),
            ) {
                let codes = code["enum"].as_array().cloned();
                for code in codes.unwrap_or_else(|| vec![code["const"].clone()]) {
                    found.insert((code.as_str().unwrap_or_default().to_owned(), status));
                }
            }
            fields.values().for_each(|value| problems(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| problems(value, found)),
        _ => {}
    }
}

#[test]
fn the_codes_are_those_of_the_page_in_words() -> Result<()> {
    let words = fs::read_to_string(repository().join("docs/agent.md"))?;
    let (_, table) = words.split_once("\n## Error codes\n").context("no table of codes")?;
    let rows = table.lines().take_while(|line| !line.starts_with("## "));
    let rows = rows.filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let status = |rest: &str| rest.split(' ').next().unwrap_or_default().parse();
    let mut expected = BTreeSet::new();
    for (code, rest) in rows {
        expected.insert((code.to_owned(), status(rest)?));
    }
    let mut described = BTreeSet::new();
    problems(&page()?, &mut described);
    assert_eq!(described.difference(&expected).collect::<Vec<_>>(), [] as [&(String, u64); 0]);
    assert_eq!(expected.difference(&described).collect::<Vec<_>>(), [] as [&(String, u64); 0]);
    Ok(())
}
