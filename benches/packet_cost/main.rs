//! What one packet costs each part of its way, without anybody else: `cargo bench --bench packet_cost`.
//!
//! Both sides of a ring are played by one thread in turns, so that no cache line travels. With `--time` nanoseconds of the whole
//! way are printed, which depend on the machine. Without it, each way runs under callgrind twice, with few packets and with
//! many, and the difference gives the instructions that a packet costs in each of its parts, which hardly depend on anything:
//! they are compared with the checked-in `benches/packet_cost/instructions.txt`, and `--bless` writes that file.

mod counted;
mod parts;

use std::time::Instant;

/// Packets of a way that is timed.
const PACKETS: u64 = 4_000_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // what callgrind runs
        ["way", name, packets] => {
            let way = parts::all().into_iter().find(|way| way.name() == name).expect("a way");
            way.run(packets.parse().expect("a number"));
        }
        ["--time"] => {
            for way in parts::all() {
                way.run(PACKETS / 10);
                let begun = Instant::now();
                way.run(PACKETS);
                let each = begun.elapsed().as_nanos() as f64 / PACKETS as f64;
                println!("{:<28}{each:>8.2} ns a packet", way.name());
            }
        }
        ["--bless"] => counted::bless(),
        _ => counted::compare(),
    }
}
