//! A DNS server in which an address can appear, and change.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Answers for every name until it is dropped.
pub(crate) struct Dns {
    /// Where it is asked.
    pub(crate) address: SocketAddr,
    known: Arc<Mutex<Vec<Ipv4Addr>>>,
    _tasks: JoinSet<()>,
}

impl Dns {
    /// A server for which every name has these addresses, or for which there is no name where there are none.
    pub(crate) async fn start(known: &[Ipv4Addr]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let known = Arc::new(Mutex::new(known.to_vec()));
        let asked = Arc::clone(&known);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut query).await.unwrap();
                let answer = answer(&query[..length], &asked.lock().unwrap());
                socket.send_to(&answer, peer).await.unwrap();
            }
        });
        Self {
            address,
            known,
            _tasks: tasks,
        }
    }

    /// From now on every name has this address.
    pub(crate) fn move_to(&self, address: Ipv4Addr) {
        *self.known.lock().unwrap() = vec![address];
    }
}

/// The answer to a query with one question (RFC 1035, section 4.1).
fn answer(query: &[u8], known: &[Ipv4Addr]) -> Vec<u8> {
    const HEADER: usize = 12;
    // The name is a row of labels, each after its length, and ends with an empty one. Type and class follow.
    let mut end = HEADER;
    while query[end] != 0 {
        end += 1 + usize::from(query[end]);
    }
    let question = &query[HEADER..end + 5];
    let asks_for_ipv4 = query[end + 1..end + 3] == [0, 1];
    let addresses = if asks_for_ipv4 { known } else { &[] };

    let mut answer = query[..2].to_vec();
    // A response, recursion available; "no such name" where there are no addresses.
    answer.extend([0x81, if known.is_empty() { 0x83 } else { 0x80 }]);
    // One question, so many answers, and nothing else.
    answer.extend([0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    answer.extend(question);
    for address in addresses {
        // The name of the question, A, IN, for ten minutes, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(600_u32.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    answer
}
