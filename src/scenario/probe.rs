#[test]
fn probe() {
    use super::scalar::Node; use super::span::At;
    fn show(n:&At<Node>, text:&str, d:usize){ let s=n.span; let t=text.get(s.offset as usize..(s.offset+s.len) as usize); println!("{}{:?} {}:{} +{} len {} {:?}", "  ".repeat(d), match &n.value {Node::Map(_)=>"MAP".into(), Node::List(_)=>"LIST".into(), x=>format!("{x:?}")}, s.line,s.column,s.offset,s.len,t);
      match &n.value { Node::Map(m)=>for (k,v) in m.iter(){ let s=k.span; println!("{}KEY {} {}:{} +{} len {} {:?}", "  ".repeat(d+1), k.value, s.line,s.column,s.offset,s.len, text.get(s.offset as usize..(s.offset+s.len) as usize)); show(v,text,d+2);}, Node::List(l)=>for v in l {show(v,text,d+1)}, _=>{} } }
    let text = "a: 1\nüb:\n  - send: {from: x, 'to y': 0x10, \"q\": \"é\"}\n  - {k: [1, 00, true, yes, ~, 1.5, -3]}\n  - [a,\n    b]\nlong: |\n  hello\n  you\nnone:\nanch: &x {p: 1}\nal: *x\nempty: {}\nel: []\nmulti: one\n  two\nm2:\n   z: 1\n   y: 2\nt: a b # c\n";
    let n: At<Node> = serde_yaml::from_str(text).unwrap();
    show(&n,text,0);
    for bad in ["a: [1,\n", "a: b: c\n", "a: 1\na: 2\n", "a:\n\tb: 1\n", "a: 'x\n", "", "a: 1\n---\nb: 2\n", "a: *x\n", "? [1]\n: 2\n", "- a\n b: 1\n", "a: 1\n b: 2\n", "{a: 1\n", "a: \"\\q\"\n", "a: @x\n", "1: 2\n", "<<: {a: 1}\n", "a: !foo 1\n", "a: .inf\n","a: 99999999999999999999999\n", "a: -99999999999999999999999\n", "%YAML 3.0\n---\na: 1\n", "a: 1\n]\n"] {
      let e = serde_yaml::from_str::<At<Node>>(bad).map(|n| n.value.to_string());
      match e { Ok(v) => println!("{bad:?} OK {v}"), Err(e) => println!("{bad:?} {:?}", e.without_snippet()) }
    }
}
