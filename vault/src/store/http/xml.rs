//! The small XML documents that S3 speaks, read into a plain tree.
//!
//! A tree instead of derived structures, because listings of versions mix two kinds of elements whose order
//! counts, and because servers differ in what they leave out.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Deepest nesting that is read: S3's answers need four.
const DEPTH_MAX: usize = 16;

/// One element: its local name, its text, and the elements in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::store) struct Node {
    pub(in crate::store) name: String,
    pub(in crate::store) text: String,
    pub(in crate::store) children: Vec<Node>,
}

impl Node {
    /// Reads a document; `None` if it isn't well-formed XML.
    pub(in crate::store) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_reader(bytes);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(e) => {
                    if open.len() > DEPTH_MAX {
                        return None;
                    }
                    open.push(Self::named(e.local_name().as_ref()));
                }
                Event::Empty(e) => {
                    let node = Self::named(e.local_name().as_ref());
                    open.last_mut()?.children.push(node);
                }
                Event::End(_) => {
                    let node = open.pop()?;
                    open.last_mut()?.children.push(node);
                }
                Event::Text(e) => open.last_mut()?.text.push_str(&e.decode().ok()?),
                Event::CData(e) => open.last_mut()?.text.push_str(&e.decode().ok()?),
                Event::GeneralRef(e) => {
                    let c = match e.resolve_char_ref().ok()? {
                        Some(c) => c,
                        None => predefined(&e.decode().ok()?)?,
                    };
                    open.last_mut()?.text.push(c);
                }
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        let root = open.pop()?;
        (open.is_empty() && root.children.len() == 1).then(|| root.children.into_iter().next())?
    }

    fn named(name: &[u8]) -> Self {
        Self { name: String::from_utf8_lossy(name).into_owned(), ..Self::default() }
    }

    /// The first child of that name.
    pub(in crate::store) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The text of the element that the path of names leads to.
    pub(in crate::store) fn text_at(&self, path: &[&str]) -> Option<&str> {
        let mut node = self;
        for name in path {
            node = node.child(name)?;
        }
        Some(node.text.trim())
    }
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_entities_and_namespaces_survive() {
        let doc =
            br#"<?xml version="1.0"?><R xmlns="http://x"><Version><Key>a&amp;b&#43;</Key></Version>
            <DeleteMarker/><Version><Key>c</Key></Version></R>"#;
        let root = Node::parse(doc).unwrap();
        assert_eq!(root.name, "R");
        let names: Vec<_> = root.children.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["Version", "DeleteMarker", "Version"]);
        assert_eq!(root.text_at(&["Version", "Key"]), Some("a&b+"));
    }

    #[test]
    fn what_is_not_xml_is_none() {
        for bad in ["", "<a>", "hello", "<a></b>", "<a>&x;</a>"] {
            assert_eq!(Node::parse(bad.as_bytes()), None, "{bad}");
        }
        let deep = "<a>".repeat(40);
        assert_eq!(Node::parse(deep.as_bytes()), None);
    }
}
