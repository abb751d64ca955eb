"""A SLURM of one node: no systemd, cgroups or munge; works as root in a container too."""
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time

CPUS = 8  # more than there are: ranks share cores

CONFIGURATION = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Lab:
    """Raises RuntimeError with the reason and the daemons' logs if SLURM does not come up."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.daemons = []
        missing = [name for name in ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo")
                   if shutil.which(name, path=self.path()) is None]
        if missing:
            raise RuntimeError(f"SLURM is not installed ({', '.join(missing)} missing): "
                               "jobs/install.sh slurm-wlm")
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.host = socket.gethostname().partition(".")[0]
        configuration = self.folder / "slurm.conf"
        configuration.write_text(CONFIGURATION.format(
            host=self.host, ports=free_ports(2), user=pwd.getpwuid(os.getuid()).pw_name,
            folder=self.folder, cpus=CPUS))
        self.environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": self.path()}
        self.start("slurmctld", "-D", "-c")
        self.start("slurmd", "-D", "-N", self.host)
        self.wait_until_up()

    @staticmethod
    def path():
        return os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"

    def start(self, name, *arguments):
        with open(self.folder / f"{name}.log", "w") as log:
            self.daemons.append(subprocess.Popen([name, *arguments], stdout=log, stderr=log,
                                                 env=self.environment))

    def wait_until_up(self, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end and all(daemon.poll() is None for daemon in self.daemons):
            if self.call("sinfo", "-h", "-o", "%t", check=False).stdout.strip() == "idle":
                return
            time.sleep(0.1)
        self.down()
        raise RuntimeError(f"SLURM did not come up on {self.host}:\n{self.logs()}")

    def logs(self):
        """The ends of what the daemons said."""
        return "\n".join(f"{log.name}:\n{log.read_text()[-3000:]}"
                         for log in self.folder.glob("*.log"))

    def down(self):
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def call(self, *command, check=True, **variables):
        done = subprocess.run(command, capture_output=True, text=True,
                              env={**self.environment, **variables})
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done

    def submit(self, *arguments, **variables):
        """The job's number."""
        return self.call("sbatch", "--parsable", *arguments, **variables).stdout.strip()

    def jobs(self, job):
        """What scontrol says of a job, or of each task of an array: a dictionary each."""
        lines = self.call("scontrol", "-o", "show", "job", job).stdout.splitlines()
        return [dict(item.partition("=")[::2] for item in line.split()) for line in lines if line]

    def states(self, job):
        return {task["JobState"] for task in self.jobs(job)}
