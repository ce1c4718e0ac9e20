//! What the proxy forwards is understood by Node, h11 and nginx as the proxy understood it.

use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use workspace_tests::{
    differential::{
        Pair, Reading,
        inputs::{self, Input},
        servers::Kind,
    },
    process::free_address,
    require,
};

/// What one server read of each input.
type Readings = (Kind, Vec<Reading>);

/// As many inputs go to one pair: each looks through all that the pair has written down.
const INPUTS_EACH: usize = 50;

#[test]
fn node_h11_and_nginx_read_what_is_forwarded_as_the_proxy_did() -> Result<()> {
    require!(Nginx, PythonPackages);
    let port = free_address()?.port();
    let inputs = &inputs::all(port)?;
    let readings = thread::scope(|scope| {
        let reader = |kind| scope.spawn(move || read_all(kind, port, inputs));
        let readers = Kind::ALL.map(reader);
        let join = |reader: thread::ScopedJoinHandle<'_, Result<Readings>>| {
            reader.join().map_err(|_panic| anyhow!("a reader panicked"))?
        };
        readers.into_iter().map(join).collect::<Result<Vec<Readings>>>()
    })?;
    let mut forwarded = 0;
    for (at, input) in inputs.iter().enumerate() {
        let readings: Vec<(Kind, &Reading)> =
            readings.iter().map(|(kind, all)| (*kind, &all[at])).collect();
        let said = String::from_utf8_lossy(&input.bytes).into_owned();
        agree(input, &readings).with_context(|| format!("input {at}: {said:?}\n{readings:#?}"))?;
        forwarded += readings[0].1.forwarded.len();
    }
    // The check is worth nothing when nearly everything is refused.
    ensure!(forwarded > inputs.len() / 2, "only {forwarded} requests were forwarded");
    Ok(())
}

fn read_all(kind: Kind, port: u16, inputs: &[Input]) -> Result<Readings> {
    let mut all = Vec::new();
    for some in inputs.chunks(INPUTS_EACH) {
        let mut pair = Pair::start(kind.start(port)?)?;
        for input in some {
            let said = String::from_utf8_lossy(&input.bytes);
            all.push(pair.read(&input.bytes).with_context(|| format!("{kind:?}: {said:?}"))?);
        }
    }
    Ok((kind, all))
}

fn agree(input: &Input, readings: &[(Kind, &Reading)]) -> Result<()> {
    for (kind, reading) in readings {
        // An upload that ended early, or a method that nobody knows, may be refused by a server.
        let whole = reading.refused.is_empty() || input.meant.is_none();
        ensure!(whole, "{kind:?} refuses what was forwarded");
        let read = reading.understood.iter();
        let read: Vec<_> = read.map(|it| (it.method.clone(), it.body.len())).collect();
        ensure!(read == reading.forwarded, "{kind:?} read something else than the proxy");
        if let Some(meant) = &input.meant {
            let read = reading.understood.iter();
            let read: Vec<_> =
                read.map(|it| (it.method.clone(), it.target.clone(), it.body.clone())).collect();
            ensure!(read == *meant, "{kind:?} read something else than was meant");
        }
    }
    // Of what one of them refused, the others may have read more.
    let whole: Vec<_> = readings.iter().filter(|(_, it)| it.refused.is_empty()).collect();
    for pair in whole.windows(2) {
        ensure!(pair[0].1.understood == pair[1].1.understood, "they read something else");
        // nginx does not tell them.
        let told = pair.iter().all(|(kind, _)| *kind != Kind::Nginx);
        ensure!(!told || pair[0].1.headers == pair[1].1.headers, "headers differ");
    }
    Ok(())
}
