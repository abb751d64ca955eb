#include "board.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <new>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/log.h"

#include "channel.h"

namespace fst {

namespace {

static_assert(std::atomic<std::int64_t>::is_always_lock_free, "the board is shared by processes");

using std::chrono::milliseconds;
// Nodes that fail together speak in turn: the first one's MPI_Abort silences the others.
constexpr milliseconds turn{100};
constexpr int turns_at_most = 20;
constexpr milliseconds courtesy{3000};  // of a node without late ranks: others know more
constexpr milliseconds patience{5000};  // for the job to be ended by who has reported
constexpr milliseconds poll_pause{10};
constexpr int look_milliseconds = 500;  // between looks at calls that block
constexpr std::int64_t blocked = -1;    // number of a wait inside MPI or HDF5

/// The same on all processes of a node.
std::int64_t now_nanoseconds() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

std::string seconds_since(std::int64_t then) {
  return std::to_string((now_nanoseconds() - then) / 1'000'000'000) + " s";
}

/// Process ids mean something only among processes with the same number; 0 where it is unknown.
std::int64_t process_space() {
  struct stat status {};
  if (stat("/proc/self/ns/pid", &status) != 0) return 0;
  return static_cast<std::int64_t>(status.st_ino);
}

/// "T" for a stopped process, "D" for one that waits for a disk, ... (proc(5)); its main thread's.
char state_of(std::int64_t process) {
  const std::string id = std::to_string(process);
  std::ifstream file("/proc/" + id + "/task/" + id + "/stat");
  std::string text;
  std::getline(file, text);
  const auto end = text.rfind(')');  // of the program's name, which may hold anything
  return end == std::string::npos || end + 2 >= text.size() ? '?' : text[end + 2];
}

/// Readable when the process ends; -1 where the kernel does not offer it.
int process_descriptor(std::int64_t process) {
#ifdef SYS_pidfd_open
  return static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(process), 0));
#else
  static_cast<void>(process);
  return -1;
#endif
}

template <class Words>
void store_text(Words& words, std::string_view text) {
  std::array<char, std::tuple_size_v<Words> * 8> bytes{};
  text.copy(bytes.data(), bytes.size() - 1);
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + 8 * i, 8);
    words[i].store(word, std::memory_order_relaxed);
  }
}

template <class Words>
std::string load_text(const Words& words) {
  std::array<char, std::tuple_size_v<Words> * 8 + 1> bytes{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint64_t word = words[i].load(std::memory_order_relaxed);
    std::memcpy(bytes.data() + 8 * i, &word, 8);
  }
  return bytes.data();
}

}  // namespace

const char* name_of(Activity activity) {
  constexpr const char* names[] = {"",         "start-up",   "rollout",   "reflection",
                                   "learning", "evaluation", "checkpoint"};
  return names[static_cast<std::size_t>(activity)];
}

Board::Board() : host_(host_name()) {
  header_ = &own_header_;
  slots_ = {&own_slot_, 1};
}

Board::Board(MPI_Comm all) : host_(host_name()) {
  int rank = 0, size = 0;
  FST_MPI_CHECK(MPI_Comm_rank(all, &rank));
  FST_MPI_CHECK(MPI_Comm_size(all, &ranks_));
  MPI_Comm node = MPI_COMM_NULL;
  FST_MPI_CHECK(MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node));
  int place = 0;
  FST_MPI_CHECK(MPI_Comm_rank(node, &place));
  FST_MPI_CHECK(MPI_Comm_size(node, &size));
  me_ = static_cast<std::size_t>(place);
  // A node is known by its lowest rank; nodes are numbered in that order.
  int leader = rank;
  FST_MPI_CHECK(MPI_Bcast(&leader, 1, MPI_INT, 0, node));
  std::vector<int> leaders(static_cast<std::size_t>(ranks_));
  FST_MPI_CHECK(MPI_Allgather(&leader, 1, MPI_INT, leaders.data(), 1, MPI_INT, all));
  std::sort(leaders.begin(), leaders.end());
  leaders.erase(std::unique(leaders.begin(), leaders.end()), leaders.end());
  nodes_ = static_cast<int>(leaders.size());
  node_ =
      static_cast<int>(std::lower_bound(leaders.begin(), leaders.end(), leader) - leaders.begin());

  bytes_ = sizeof(Header) + static_cast<std::size_t>(size) * sizeof(Slot);
  share(node);
  header_ = static_cast<Header*>(memory_);
  auto* slots = reinterpret_cast<Slot*>(static_cast<char*>(memory_) + sizeof(Header));
  slots_ = {slots, static_cast<std::size_t>(size)};
  new (&mine()) Slot;
  mine().rank = rank;
  mine().process = getpid();
  mine().process_space = process_space();
  mine().activity_began = now_nanoseconds();
  FST_MPI_CHECK(MPI_Barrier(node));  // all slots are written
  FST_MPI_CHECK(MPI_Comm_free(&node));
  watch_neighbours();
}

/// Maps memory of the node: zero, which is what an unclaimed header and an empty slot are.
void Board::share(MPI_Comm node) {
  std::array<char, 64> name{};
  if (me_ == 0) {
    std::snprintf(name.data(), name.size(), "/fst-%d-%llx", static_cast<int>(getpid()),
                  static_cast<unsigned long long>(now_nanoseconds()));
  }
  int file = -1;
  if (me_ == 0) {
    file = shm_open(name.data(), O_CREAT | O_EXCL | O_RDWR, 0600);
    if (file >= 0 && ftruncate(file, static_cast<off_t>(bytes_)) != 0)
      close(std::exchange(file, -1));
  }
  FST_MPI_CHECK(MPI_Bcast(name.data(), static_cast<int>(name.size()), MPI_CHAR, 0, node));
  if (me_ != 0) file = shm_open(name.data(), O_RDWR, 0600);
  if (file >= 0) {
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
  }
  const int reason = errno;
  FST_MPI_CHECK(MPI_Barrier(node));  // everybody has it: the name can go
  if (me_ == 0) shm_unlink(name.data());
  if (file < 0 || memory_ == MAP_FAILED) {
    throw Error("no memory to share between the ranks of node " + host_ + " (" + name.data() +
                "): " + std::strerror(reason));
  }
}

Board::~Board() {
  leave();
  if (watcher_.joinable()) {
    const std::uint64_t one = 1;
    if (write(stop_, &one, sizeof one) < 0) log::warn("the watching thread cannot be stopped");
    watcher_.join();
  }
  for (const int descriptor : descriptors_) {
    if (descriptor >= 0) close(descriptor);
  }
  if (stop_ >= 0) close(stop_);
  if (memory_ != nullptr) munmap(memory_, bytes_);
}

void Board::enter(Activity activity, std::int64_t step) {
  mine().activity.store(static_cast<std::int64_t>(activity), std::memory_order_relaxed);
  mine().step.store(step, std::memory_order_relaxed);
  mine().activity_began.store(now_nanoseconds(), std::memory_order_relaxed);
}

void Board::begin_wait(std::uint64_t communicator, std::int64_t number, std::string_view what) {
  Slot& slot = mine();
  store_text(slot.wait_text, what);
  slot.wait_communicator.store(communicator, std::memory_order_relaxed);
  slot.wait_began.store(now_nanoseconds(), std::memory_order_relaxed);
  slot.wait_number.store(number, std::memory_order_release);
}

void Board::end_wait() {
  mine().wait_number.store(0, std::memory_order_release);
}

void Board::begin_blocking(std::string_view what, double seconds) {
  begin_wait(0, blocked, what);
  const double limit = std::min(seconds, 1e9);  // a century, and no overflow
  overdue_at_ = now_nanoseconds() + static_cast<std::int64_t>(limit * 1e9);
}

void Board::end_blocking() {
  overdue_at_ = 0;
  end_wait();
}

void Board::leave() {
  mine().left.store(1, std::memory_order_release);
}

std::string Board::name_of_rank(const Slot& slot) const {
  std::string text =
      "rank " + std::to_string(slot.rank) + " of " + std::to_string(ranks_) + " on node " + host_;
  const auto activity = static_cast<Activity>(slot.activity.load(std::memory_order_relaxed));
  if (activity == Activity::none) return text;
  text += std::string(", in ") + name_of(activity);
  if (activity != Activity::start_up) text += " of step " + std::to_string(slot.step);
  return text;
}

std::string Board::here() const {
  return name_of_rank(slots_[me_]);
}

std::string Board::late_for(std::uint64_t communicator, std::int64_t number) {
  std::string late, waiting;
  for (const Slot& slot : slots_) {
    if (&slot == &mine()) continue;
    const std::int64_t theirs = slot.wait_number.load(std::memory_order_acquire);
    const bool before = slot.wait_communicator == communicator && theirs < number;
    const std::string who = name_of_rank(slot);
    const char state = slot.process_space == mine().process_space ? state_of(slot.process) : '?';
    if (slot.left != 0) {
      late += "; " + who + ", has left the program";
    } else if (theirs == 0 || state == 'T' || state == 'D') {
      const char* how = state == 'T' ? "is stopped" : "does not answer";
      if (state == 'D') how = "waits for a disk";
      late += "; " + who + " for " + seconds_since(slot.activity_began) + ", " + how;
    } else if (before) {
      late += "; " + who + ", stands at an earlier wait, for " + load_text(slot.wait_text);
    } else {
      waiting += "; " + who + ", waits too, for " + load_text(slot.wait_text) + " for " +
                 seconds_since(slot.wait_began);
    }
  }
  if (!late.empty()) return "late: " + late.substr(2);
  if (nodes_ > 1) {
    blameless_ = true;
    return "the late rank is on another node" + waiting;
  }
  return "nobody is at work" + waiting;
}

void Board::watch_neighbours() {
  for (const Slot& slot : slots_) {
    const bool ours = slot.process_space != 0 && slot.process_space == mine().process_space;
    const bool me = &slot == &mine();
    descriptors_.push_back(ours && !me ? process_descriptor(slot.process) : -1);
  }
  stop_ = eventfd(0, EFD_CLOEXEC);
  if (stop_ < 0) return log::warn("no thread watches the other ranks of this node");
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);  // signals are for the main thread
  watcher_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Board::watch() {
  std::vector<pollfd> polled;
  for (const int descriptor : descriptors_) polled.push_back({descriptor, POLLIN, 0});
  polled.push_back({stop_, POLLIN, 0});
  while (true) {
    if (poll(polled.data(), polled.size(), look_milliseconds) < 0 && errno != EINTR) return;
    if (polled.back().revents != 0) return;
    end_if_overdue();
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (polled[i].revents == 0) continue;
      polled[i].fd = -1;
      if (slots_[i].left.load(std::memory_order_acquire) == 0) report_death(slots_[i]);
    }
  }
}

void Board::report_death(const Slot& slot) {
  if (claim()) {
    std::fprintf(stderr, "fst: %s, died (process %lld)\n", name_of_rank(slot).c_str(),
                 static_cast<long long>(slot.process));
    header_->reported = 1;
  }
  broken_ = true;
}

void Board::end_if_overdue() {
  const std::int64_t limit = overdue_at_;
  // The main thread is inside MPI, which this one must not call: each rank ends itself.
  if (limit != 0 && broken()) std::_Exit(exit_failure);
  if (limit == 0 || now_nanoseconds() < limit) return;
  const std::string what = load_text(mine().wait_text);
  report(here() + ": " + what + " has blocked for " + seconds_since(mine().wait_began) + "; " +
         late_for(0, blocked));
  std::_Exit(exit_failure);
}

bool Board::claim() {
  std::int64_t nobody = 0;
  return header_->claimed.compare_exchange_strong(nobody, slots_[me_].rank + 1);
}

bool Board::report(const std::string& text) {
  if (header_->claimed == mine().rank + 1) return true;  // by the watching thread
  if (claim()) {
    std::this_thread::sleep_for(turn * std::min(node_, turns_at_most) +
                                (blameless_ ? courtesy : milliseconds{0}));
    std::fprintf(stderr, "fst: %s\n", text.c_str());
    header_->reported = 1;
    return true;
  }
  for (milliseconds waited{0}; waited < patience; waited += poll_pause) {
    std::this_thread::sleep_for(poll_pause);
  }
  return header_->reported == 0;
}

}  // namespace fst
