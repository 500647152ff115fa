//! The collector: a service that the node reports to, again and again.

use core::fmt::Write;

use acorn_core::provision::Call;
use embassy_net::Stack;
use embassy_net::tcp::TcpSocket;
use embassy_time::{Duration, Instant, Timer, with_timeout};

use crate::reading::{READING_MAX, Source};
use crate::telemetry::write_all;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// As much of an answer is read, in bytes.
const ANSWER_MAX: usize = 256;

/// Posts a reading to the collector, once in its period, over HTTP/1.1 (RFC 9112). A call that fails is logged, and the next is made as
/// usual.
#[embassy_executor::task]
pub(crate) async fn call(stack: Stack<'static>, call: Call, source: Source) {
    let mut buffers = ([0; ANSWER_MAX], [0; 536]);
    let (mut calls, mut failures) = (0_u32, 0_u32);
    loop {
        // Without an address there is nothing to call from.
        stack.wait_config_up().await;
        let began = Instant::now();
        let mut answer = [0; ANSWER_MAX];
        calls = calls.wrapping_add(1);
        match with_timeout(PATIENCE, post(stack, &mut buffers, call, &source, &mut answer)).await {
            Ok(Ok(text)) => {
                let took = began.elapsed().as_millis();
                defmt::info!("collector call {=u32}: answered by {=str} in {=u64} ms", calls, text, took);
            }
            Ok(Err(trouble)) => {
                failures = failures.wrapping_add(1);
                defmt::warn!("collector call {=u32}: {=str} ({=u32} failed so far)", calls, trouble, failures);
            }
            Err(_) => {
                failures = failures.wrapping_add(1);
                defmt::warn!("collector call {=u32}: no answer in time ({=u32} failed so far)", calls, failures);
            }
        }
        Timer::at(began + Duration::from_secs(u64::from(call.period_s))).await;
    }
}

/// Posts one reading and returns the first line of the answer's body.
async fn post<'o>(
    stack: Stack<'static>,
    (rx, tx): &mut ([u8; ANSWER_MAX], [u8; 536]),
    call: Call,
    source: &Source,
    answer: &'o mut [u8; ANSWER_MAX],
) -> Result<&'o str, &'static str> {
    let mut socket = TcpSocket::new(stack, rx, tx);
    socket.set_timeout(Some(PATIENCE));
    socket.connect((call.address, call.port)).await.map_err(|_| "not connected")?;
    let mut reading = [0; READING_MAX];
    let json = source.read(&mut reading);
    let mut head = heapless::String::<192>::new();
    write!(
        head,
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        call.address,
        json.len()
    )
    .map_err(|_| "the request has no room")?;
    let sent = async {
        write_all(&mut socket, head.as_bytes()).await?;
        write_all(&mut socket, json).await
    };
    sent.await.map_err(|_| "the connection broke")?;
    let mut len = 0;
    while let Some(room) = answer.get_mut(len..).filter(|room| !room.is_empty()) {
        match socket.read(room).await {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(_) => return Err("the connection broke"),
        }
    }
    socket.close();
    let _ = socket.flush().await;
    let answer = core::str::from_utf8(answer.get(..len).unwrap_or(&[])).map_err(|_| "the answer is no text")?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    if head.split(' ').nth(1) != Some("200") {
        return Err("the answer is a refusal");
    }
    Ok(body.lines().next().unwrap_or(""))
}
