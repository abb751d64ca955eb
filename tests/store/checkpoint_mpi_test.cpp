#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fst/base/error.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/digest.h"

#include "mpi_main.h"
#include "rows.h"
#include "temporary_folder.h"

namespace fst {
namespace {

const Communicator& all() {
  return test::world().all();
}

/// One folder for all ranks, made and removed by rank 0.
class CheckpointMpi : public ::testing::Test {
 protected:
  CheckpointMpi() {
    std::string path;
    if (all().rank() == 0) path = folder_.emplace().path().string();
    all().broadcast(path, 0, "test folder");
    path_ = path;
  }
  ~CheckpointMpi() override { all().barrier("end of the test"); }
  std::optional<testing::TemporaryFolder> folder_;
  std::filesystem::path path_;
};

constexpr std::int64_t size = 3 * (1 << 18) + 1234;  // not a multiple of the chunk

float value(std::int64_t i) {
  return static_cast<float>(i % 10007) * 0.125f - 3.0f;
}

/// Deals the array in pieces: contiguous shares, everything to the last rank, stripes in turn, or
/// blocks of columns, the array taken as a matrix.
enum class Deal { shares, last, stripes, columns };
constexpr Deal all_deals[] = {Deal::shares, Deal::last, Deal::stripes, Deal::columns};

struct Pieces {
  std::vector<std::vector<float>> values;
  std::vector<ArrayPiece> pieces;

  void add(std::int64_t begin, std::int64_t end) {
    auto& part = values.emplace_back();
    for (std::int64_t i = begin; i < end; ++i) part.push_back(value(i));
    pieces.push_back({begin, {}});
  }
  /// Columns [begin, end) of the `rows` rows of `cols` from element 0 on.
  void add_columns(std::int64_t rows, std::int64_t cols, std::int64_t begin, std::int64_t end) {
    auto& part = values.emplace_back();
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = begin; c < end; ++c) part.push_back(value(r * cols + c));
    }
    pieces.push_back({begin, {}, end - begin, cols});
  }
  std::span<const ArrayPiece> list() {
    for (std::size_t i = 0; i < values.size(); ++i) pieces[i].values = values[i];
    return pieces;
  }
};

Pieces dealt(Deal deal) {
  const std::int64_t ranks = all().size(), me = all().rank();
  constexpr std::int64_t stripe = 100'003;
  Pieces mine;
  if (deal == Deal::shares) mine.add(size * me / ranks, size * (me + 1) / ranks);
  if (deal == Deal::last && me == ranks - 1) mine.add(0, size);
  if (deal == Deal::columns) {
    constexpr std::int64_t cols = 997, rows = size / cols;  // a chunk ends in the middle of a row
    mine.add_columns(rows, cols, cols * me / ranks, cols * (me + 1) / ranks);
    if (me == 0) mine.add(rows * cols, size);
  }
  if (deal == Deal::stripes) {
    for (std::int64_t begin = me * stripe; begin < size; begin += ranks * stripe) {
      mine.add(begin, std::min(begin + stripe, size));
    }
  }
  return mine;
}

void write(const std::filesystem::path& file, Deal deal) {
  CheckpointWriter writer(all(), file, test::identity(), size * 4);
  Pieces mine = dealt(deal);
  writer.array("/policy/weights", size, mine.list());
  const bool first = all().rank() == 0;
  writer.blob("/state/text", first ? "only rank 0 knows this" : "", DigestUse::digest);
  const std::vector<std::int64_t> numbers{7, 8, 9};
  writer.integers("/state/numbers", first ? numbers : std::vector<std::int64_t>{},
                  DigestUse::digest);
  writer.commit();
}

TEST_F(CheckpointMpi, AnyRanksAndRangesReadWhatAnyOthersWrote) {
  for (const Deal deal : all_deals) {
    const auto file = path_ / file_name({static_cast<int>(deal), -1});
    write(file, deal);
    const CheckpointReader reader(all(), file);
    const std::int64_t begin =
        size * all().rank() / (all().size() + 1) + 3;  // other cuts, overlaps
    std::vector<float> part(static_cast<std::size_t>(size - begin));
    reader.array("/policy/weights", begin, part);
    bool same = true;
    for (std::int64_t i = begin; i < size; ++i) {
      same = same && part[static_cast<std::size_t>(i - begin)] == value(i);
    }
    EXPECT_TRUE(same);
    EXPECT_EQ(reader.blob("/state/text"), "only rank 0 knows this");
    EXPECT_EQ(reader.integers("/state/numbers"), (std::vector<std::int64_t>{7, 8, 9}));
  }
}

TEST_F(CheckpointMpi, BlocksOfColumnsAreReadAsTheyWereWritten) {
  const auto file = path_ / "checkpoint-1.h5";
  write(file, Deal::columns);
  const CheckpointReader reader(all(), file);
  constexpr std::int64_t cols = 1013, rows = size / cols, width = 101;  // not those of the writer
  std::vector<float> block(rows * width), tail(17);
  const std::int64_t first = 7 + 100 * all().rank();
  const ArrayPart<float> parts[] = {{first, block, width, cols}, {size - 17, tail}};
  reader.array("/policy/weights", parts);
  bool same = true;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < width; ++c) {
      same = same && block[static_cast<std::size_t>(r * width + c)] == value(first + r * cols + c);
    }
  }
  for (std::int64_t i = 0; i < 17; ++i) {
    same = same && tail[static_cast<std::size_t>(i)] == value(size - 17 + i);
  }
  EXPECT_TRUE(same);
  const ArrayPart<float> beyond{size - 10, block, 5, cols};
  EXPECT_THROW(reader.array("/policy/weights", {&beyond, 1}), Error);
}

TEST_F(CheckpointMpi, DigestDoesNotDependOnRanksOrPieces) {
  // Rank 0 also writes the file alone, as a run on one rank would.
  std::string alone;
  if (all().rank() == 0) {
    const Communicator self = Communicator::self();
    std::vector<float> x;
    for (std::int64_t i = 0; i < size; ++i) x.push_back(value(i));
    const ArrayPiece whole{0, x};
    CheckpointWriter writer(self, path_ / "alone.h5", test::identity(), size * 4);
    writer.array("/policy/weights", size, {&whole, 1});
    writer.blob("/state/text", "only rank 0 knows this", DigestUse::digest);
    const std::vector<std::int64_t> numbers{7, 8, 9};
    writer.integers("/state/numbers", numbers, DigestUse::digest);
    writer.commit();
    alone = digest(path_ / "alone.h5");
  }
  for (const Deal deal : all_deals) {
    const auto file = path_ / file_name({static_cast<int>(deal), -1});
    write(file, deal);
    if (all().rank() == 0) {
      EXPECT_EQ(digest(file), alone);
    }
  }
}

TEST_F(CheckpointMpi, MistakesOfOneRankAreErrorsOfAll) {
  CheckpointWriter writer(all(), path_ / "checkpoint-1.h5", test::identity(), 100);
  const std::vector<float> x(10, 1.0f);
  const bool last = all().rank() == all().size() - 1;
  const ArrayPiece beyond{5, x};
  writer.array("/x", 10, last ? std::span(&beyond, 1) : std::span<const ArrayPiece>());
  EXPECT_THROW(writer.commit(), Error);
  all().barrier("removal");
  EXPECT_TRUE(std::filesystem::is_empty(path_));
}

TEST_F(CheckpointMpi, NoRoomIsAnErrorOfAll) {
  EXPECT_THROW(CheckpointWriter(all(), path_ / "checkpoint-1.h5", test::identity(), 1LL << 60),
               Error);
}

TEST_F(CheckpointMpi, AllFallBackToTheSameGoodFile) {
  write(path_ / "checkpoint-2.h5", Deal::shares);
  write(path_ / "checkpoint-4.h5", Deal::stripes);
  EXPECT_EQ(newest_good_checkpoint(all(), path_)->file(), path_ / "checkpoint-4.h5");
  if (all().rank() == 0) std::filesystem::resize_file(path_ / "checkpoint-4.h5", 2'000'000);
  all().barrier("damage");
  EXPECT_EQ(newest_good_checkpoint(all(), path_)->file(), path_ / "checkpoint-2.h5");
  EXPECT_THROW(CheckpointReader(all(), path_ / "checkpoint-4.h5"), Error);
  EXPECT_THROW(CheckpointReader(all(), path_ / "absent.h5"), Error);
}

}  // namespace
}  // namespace fst
