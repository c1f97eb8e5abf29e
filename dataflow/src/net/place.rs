//! Which process of the cluster this one is, and where the others listen.

use std::path::Path;

/// The first port of a cluster on one machine, as timely has it.
const FIRST_PORT: u16 = 2101;

/// A process's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index.
    pub process: usize,
    /// Where each process listens, HOST:PORT; as many as there are processes.
    pub addresses: Vec<String>,
}

impl Place {
    /// The place that these settings name; none if there is only one process.
    pub fn of(processes: u16, process: u16, hostfile: Option<&Path>) -> Result<Option<Place>, String> {
        if process >= processes {
            return Err(format!(
                "--process {process} with --processes {processes}: allowed are 0 to {}; processes are counted from 0",
                processes - 1
            ));
        }
        if processes == 1 {
            return match hostfile {
                None => Ok(None),
                Some(file) => Err(format!("--hostfile {} needs --processes of 2 or more", file.display())),
            };
        }
        let addresses = match hostfile {
            None => (0..processes).map(|process| format!("localhost:{}", FIRST_PORT + process)).collect(),
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("--hostfile {}: {error}", file.display()))?;
                addresses(&text, usize::from(processes)).map_err(|error| format!("--hostfile {}: {error}", file.display()))?
            }
        };
        Ok(Some(Place { process: usize::from(process), addresses }))
    }

    /// How many processes there are.
    pub fn processes(&self) -> usize {
        self.addresses.len()
    }

    /// A process, for people.
    pub fn name(&self, process: usize) -> String {
        format!("process {process} of the cluster ({})", self.addresses[process])
    }
}

/// The first lines of a hostfile, one for each process. Blank lines and lines that begin with `#` do not count.
fn addresses(text: &str, processes: usize) -> Result<Vec<String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let addresses: Vec<String> = lines.take(processes).map(str::to_owned).collect();
    if addresses.len() < processes {
        return Err(format!("{} addresses, but there are {processes} processes: a line HOST:PORT for each", addresses.len()));
    }
    for (process, address) in addresses.iter().enumerate() {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) || address.contains(char::is_whitespace) {
            return Err(format!(
                "the line of process {process} is {address:?}: it must be HOST:PORT, with a port from 1 to 65535"
            ));
        }
        if let Some(other) = addresses[..process].iter().position(|other| other == address) {
            return Err(format!("processes {other} and {process} have the same address {address}"));
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_hostfile_processes_are_on_this_machine() {
        assert_eq!(Place::of(1, 0, None), Ok(None));
        let place = Place::of(3, 1, None).unwrap().unwrap();
        assert_eq!(place.addresses, ["localhost:2101", "localhost:2102", "localhost:2103"]);
        assert_eq!(place.name(2), "process 2 of the cluster (localhost:2103)");
        assert!(Place::of(3, 3, None).unwrap_err().contains("allowed are 0 to 2"));
        assert!(Place::of(1, 1, None).unwrap_err().contains("allowed are 0 to 0"));
        assert!(Place::of(1, 0, Some(Path::new("hosts"))).unwrap_err().contains("needs --processes"));
    }

    #[test]
    fn a_hostfile_has_a_line_for_each_process() {
        let hosts = "# ours\na:1\n\n b:2 \n[::1]:3\n";
        assert_eq!(addresses(hosts, 3), Ok(vec!["a:1".to_owned(), "b:2".to_owned(), "[::1]:3".to_owned()]));
        assert_eq!(addresses(hosts, 2).unwrap().len(), 2);
        assert!(addresses(hosts, 4).unwrap_err().contains("3 addresses, but there are 4 processes"));
        assert!(addresses("a:1\na:1", 2).unwrap_err().contains("processes 0 and 1 have the same address a:1"));
        for bad in ["a", "a:", ":1", "a:0", "a:65536", "a:1 b:2"] {
            assert!(addresses(&format!("{bad}\nz:9"), 2).unwrap_err().contains("must be HOST:PORT"), "{bad}");
        }
        assert!(Place::of(2, 0, Some(Path::new("/no/such/file"))).unwrap_err().contains("/no/such/file"));
    }
}
