//! Any octets as a packet, over UDP and TCP, to the example configuration: no panic, no answer to a response, never too
//! long, id and opcode echoed. The first octet chooses the transport and what is down.
#![no_main]

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use waymark::answer::{Transport, Worker, respond};
use waymark::control::World;
use waymark::snapshot::Snapshot;

const DOWN: [&[&str]; 3] = [&[], &["region/eu-west"], &["region/*"]];

struct Node {
    snapshots: Vec<Snapshot>,
    worker: Worker,
    out: Vec<u8>,
}

impl Node {
    fn new() -> Node {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/example/waymark.toml");
        let world = World::compile(waymark::config::load(&path).configuration.expect("the example loads"));
        let down = |names: &&[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<String>>();
        let snapshots: Vec<Snapshot> = DOWN.iter().map(|names| world.offline(&down(names))).collect();
        let mut worker = Worker::new(&Arc::default(), 1);
        worker.adopt(&snapshots[0]);
        Node { snapshots, worker, out: vec![0; 65_535] }
    }
}

thread_local! {
    static NODE: RefCell<Node> = RefCell::new(Node::new());
}

fuzz_target!(|octets: &[u8]| {
    let Some((&choice, query)) = octets.split_first() else { return };
    NODE.with_borrow_mut(|node| one(node, choice, query));
});

fn one(node: &mut Node, choice: u8, query: &[u8]) {
    let transport = if choice & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let snapshot = &node.snapshots[usize::from(choice >> 1) % DOWN.len()];
    let source = IpAddr::from([127, 0, 0, choice]);
    let length = respond(snapshot, &mut node.worker, query, source, transport, &mut node.out);
    let answer = &node.out[..length];
    if query.len() < 12 || query[2] & 0x80 != 0 {
        assert!(answer.is_empty());
        return;
    }
    assert!(length >= 12);
    assert!(transport == Transport::Tcp || length <= usize::from(snapshot.settings.max_udp_payload));
    assert_eq!(answer[..2], query[..2]);
    assert_eq!(answer[2] & 0xf9, 0x80 | query[2] & 0x79);
    assert_eq!(answer[3] & 0xe0, 0);
}
