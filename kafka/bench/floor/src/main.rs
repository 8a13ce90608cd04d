// Floor: the smallest server that a Kafka client can produce to and fetch from. One thread per connection, no checks, no CRC,
// append with pwrite, serve with sendfile. It is the "raw floor" that a real broker is compared with.
use std::{collections::HashMap, fs::*, io::*, net::*, os::fd::AsRawFd, os::unix::fs::FileExt, sync::*, thread};
struct Part {
    f: File,
    idx: Vec<(i64, u64)>,
    next: i64,
    len: u64,
}
struct State {
    dir: String,
    parts: RwLock<HashMap<(String, i32), Arc<(Mutex<Part>, Condvar)>>>,
    n: i32,
    port: u16,
    any: (Mutex<u64>, Condvar),
}
struct R<'a>(&'a [u8], usize);
impl<'a> R<'a> {
    fn n(&mut self, k: usize) -> &'a [u8] {
        let s = &self.0[self.1..self.1 + k];
        self.1 += k;
        s
    }
    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.n(2).try_into().unwrap())
    }
    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.n(4).try_into().unwrap())
    }
    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.n(8).try_into().unwrap())
    }
    fn s(&mut self) -> String {
        let l = self.i16();
        if l < 0 {
            return String::new();
        }
        String::from_utf8_lossy(self.n(l as usize)).into()
    }
}
#[derive(Default)]
struct W(Vec<u8>);
impl W {
    fn i8(&mut self, v: i8) {
        self.0.push(v as u8)
    }
    fn i16(&mut self, v: i16) {
        self.0.extend(v.to_be_bytes())
    }
    fn i32(&mut self, v: i32) {
        self.0.extend(v.to_be_bytes())
    }
    fn i64(&mut self, v: i64) {
        self.0.extend(v.to_be_bytes())
    }
    fn s(&mut self, v: &str) {
        self.i16(v.len() as i16);
        self.0.extend(v.as_bytes())
    }
}
impl State {
    fn part(&self, t: &str, p: i32) -> Arc<(Mutex<Part>, Condvar)> {
        if let Some(x) = self.parts.read().unwrap().get(&(t.to_string(), p)) {
            return x.clone();
        }
        let mut g = self.parts.write().unwrap();
        g.entry((t.to_string(), p))
            .or_insert_with(|| {
                let f = OpenOptions::new()
                    .create(true)
                    .truncate(true)
                    .read(true)
                    .write(true)
                    .open(format!("{}/{}-{}", self.dir, t, p))
                    .unwrap();
                Arc::new((Mutex::new(Part { f, idx: vec![], next: 0, len: 0 }), Condvar::new()))
            })
            .clone()
    }
}
const APIS: &[(i16, i16, i16)] = &[(0, 0, 7), (1, 0, 4), (2, 0, 1), (3, 0, 4), (18, 0, 0)];
enum Piece {
    B(Vec<u8>),
    F(Arc<(Mutex<Part>, Condvar)>, u64, usize),
}
fn serve(st: &State, mut c: TcpStream) -> Result<()> {
    c.set_nodelay(true)?;
    let mut rd = BufReader::with_capacity(256 << 10, c.try_clone()?);
    let mut buf = vec![];
    loop {
        let mut l = [0; 4];
        rd.read_exact(&mut l)?;
        let l = u32::from_be_bytes(l) as usize;
        buf.resize(l, 0);
        rd.read_exact(&mut buf)?;
        let mut r = R(&buf, 0);
        let (api, ver, corr) = (r.i16(), r.i16(), r.i32());
        r.s();
        let mut w = W::default();
        w.i32(0);
        w.i32(corr);
        let mut pieces: Vec<Piece> = vec![];
        match api {
            18 => {
                w.i16(if ver > 0 { 35 } else { 0 });
                w.i32(APIS.len() as i32);
                for a in APIS {
                    w.i16(a.0);
                    w.i16(a.1);
                    w.i16(a.2)
                }
            }
            3 => {
                let n = r.i32();
                let ts: Vec<String> = (0..n.max(0)).map(|_| r.s()).collect();
                if ver >= 3 {
                    w.i32(0)
                }
                w.i32(1);
                w.i32(1);
                w.s("127.0.0.1");
                w.i32(st.port as i32);
                if ver >= 1 {
                    w.i16(-1)
                }
                if ver >= 2 {
                    w.s("floor")
                }
                if ver >= 1 {
                    w.i32(1)
                }
                w.i32(ts.len() as i32);
                for t in ts {
                    w.i16(0);
                    w.s(&t);
                    if ver >= 1 {
                        w.i8(0)
                    }
                    w.i32(st.n);
                    for p in 0..st.n {
                        w.i16(0);
                        w.i32(p);
                        w.i32(1);
                        w.i32(1);
                        w.i32(1);
                        w.i32(1);
                        w.i32(1)
                    }
                }
            }
            2 => {
                r.i32();
                let nt = r.i32();
                w.i32(nt);
                for _ in 0..nt {
                    let t = r.s();
                    w.s(&t);
                    let np = r.i32();
                    w.i32(np);
                    for _ in 0..np {
                        let p = r.i32();
                        let ts = r.i64();
                        let x = st.part(&t, p);
                        w.i32(p);
                        w.i16(0);
                        w.i64(-1);
                        w.i64(if ts == -2 { 0 } else { x.0.lock().unwrap().next })
                    }
                }
            }
            0 => {
                if ver >= 3 {
                    r.s();
                }
                let acks = r.i16();
                r.i32();
                let nt = r.i32();
                w.i32(nt);
                for _ in 0..nt {
                    let t = r.s();
                    w.s(&t);
                    let np = r.i32();
                    w.i32(np);
                    for _ in 0..np {
                        let p = r.i32();
                        let sz = r.i32() as usize;
                        let b = r.n(sz);
                        let x = st.part(&t, p);
                        let mut g = x.0.lock().unwrap();
                        let base = g.next;
                        let last = i32::from_be_bytes(b[23..27].try_into().unwrap());
                        // stamp the base offset in place (outside the CRC), one pwrite
                        let mb = unsafe { std::slice::from_raw_parts_mut(b.as_ptr() as *mut u8, sz) };
                        mb[..8].copy_from_slice(&base.to_be_bytes());
                        g.f.write_all_at(b, g.len)?;
                        let at = g.len;
                        g.idx.push((base, at));
                        g.len += sz as u64;
                        g.next += last as i64 + 1;
                        drop(g);
                        w.i32(p);
                        w.i16(0);
                        w.i64(base);
                        w.i64(-1);
                        if ver >= 5 {
                            w.i64(0)
                        }
                    }
                }
                w.i32(0);
                {
                    *st.any.0.lock().unwrap() += 1;
                    st.any.1.notify_all();
                }
                if acks == 0 {
                    continue;
                }
            }
            1 => {
                r.i32();
                let wait = r.i32();
                let min = r.i32();
                r.i32();
                r.i8_();
                let nt = r.i32();
                let mut want = vec![];
                for _ in 0..nt {
                    let t = r.s();
                    let np = r.i32();
                    let mut ps = vec![];
                    for _ in 0..np {
                        let p = r.i32();
                        let o = r.i64();
                        let m = r.i32();
                        ps.push((p, o, m))
                    }
                    want.push((t, ps))
                }
                let dl = std::time::Instant::now() + std::time::Duration::from_millis(wait as u64);
                loop {
                    let seen = *st.any.0.lock().unwrap();
                    let mut total = 0;
                    w.0.truncate(8);
                    pieces.clear();
                    w.i32(0);
                    w.i32(nt);
                    for (t, ps) in &want {
                        w.s(t);
                        w.i32(ps.len() as i32);
                        for &(p, o, m) in ps {
                            let x = st.part(t, p);
                            let g = x.0.lock().unwrap();
                            let (pos, n) = if o >= g.next {
                                (0, 0)
                            } else {
                                let i = g.idx.partition_point(|e| e.0 <= o) - 1;
                                let pos = g.idx[i].1;
                                let end = pos + m as u64;
                                let j = g.idx.partition_point(|e| e.1 <= end);
                                let e = if j >= g.idx.len() && g.len <= end {
                                    g.len
                                } else {
                                    g.idx[(j - 1).max(i + 1).min(g.idx.len() - 1)].1.max(pos)
                                };
                                let e = if e == pos { g.idx.get(i + 1).map(|e| e.1).unwrap_or(g.len) } else { e };
                                (pos, (e - pos) as usize)
                            };
                            w.i32(p);
                            w.i16(0);
                            w.i64(g.next);
                            w.i64(g.next);
                            w.i32(0);
                            w.i32(n as i32);
                            total += n;
                            drop(g);
                            pieces.push(Piece::B(std::mem::take(&mut w.0)));
                            if n > 0 {
                                pieces.push(Piece::F(x, pos, n))
                            }
                        }
                    }
                    if total >= min as usize || std::time::Instant::now() >= dl {
                        pieces.push(Piece::B(std::mem::take(&mut w.0)));
                        break;
                    }
                    // rebuild the header for another try
                    let mut h = W::default();
                    h.i32(0);
                    h.i32(corr);
                    w = h;
                    let g = st.any.0.lock().unwrap();
                    if *g == seen {
                        let _ = st.any.1.wait_timeout(g, dl.saturating_duration_since(std::time::Instant::now()));
                    }
                }
            }
            _ => return Ok(()),
        }
        if pieces.is_empty() {
            let n = (w.0.len() - 4) as u32;
            w.0[..4].copy_from_slice(&n.to_be_bytes());
            c.write_all(&w.0)?;
        } else {
            let n: usize = pieces
                .iter()
                .map(|p| match p {
                    Piece::B(b) => b.len(),
                    Piece::F(_, _, n) => *n,
                })
                .sum::<usize>()
                - 4;
            if let Piece::B(b) = &mut pieces[0] {
                b[..4].copy_from_slice(&(n as u32).to_be_bytes())
            }
            for p in pieces {
                match p {
                    Piece::B(b) => c.write_all(&b)?,
                    Piece::F(x, pos, n) => {
                        let fd = x.0.lock().unwrap().f.as_raw_fd();
                        let (mut off, mut left) = (pos as i64, n);
                        while left > 0 {
                            let k = unsafe { libc::sendfile(c.as_raw_fd(), fd, &mut off, left) };
                            if k <= 0 {
                                return Err(Error::last_os_error());
                            }
                            left -= k as usize
                        }
                    }
                }
            }
        }
    }
}
impl<'a> R<'a> {
    fn i8_(&mut self) -> i8 {
        self.n(1)[0] as i8
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = a[1].parse().unwrap();
    create_dir_all(&a[2]).unwrap();
    let st: &'static State = Box::leak(Box::new(State {
        dir: a[2].clone(),
        parts: Default::default(),
        n: a[3].parse().unwrap(),
        port,
        any: Default::default(),
    }));
    let l = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for c in l.incoming() {
        let c = c.unwrap();
        thread::spawn(move || {
            let _ = serve(st, c);
        });
    }
}
